// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../scripts/errors.ts'
import { compareVersions } from './versions.ts'

/** A symbol that may be asked for in vain. */
export interface Exception {
  readonly name: string
  /** `unknown`: the kernel has no such symbol. `unmet`: a dependency of it is not met. */
  readonly kind: 'unknown' | 'unmet'
  readonly arches: readonly string[]
  /** First version it no longer holds for. */
  readonly before: string | undefined
  /** First version it holds for. */
  readonly since: string | undefined
  readonly place: string
  readonly reason: string
}

const LINE = /^CONFIG_(\w+) +(unknown|unmet)((?: +\w+=[\w.,]+)*)$/

/**
 * Read the list of exceptions: `CONFIG_NAME unknown|unmet [arch=A,B] [before=VERSION] [since=VERSION]`.
 *
 * @throws BuildError E_INPUT with every line that is something else or has no reason above it
 */
export function parseExceptions(text: string, file: string): Exception[] {
  const rows: Exception[] = []
  const problems: string[] = []
  let reason = ''
  for (const [index, line] of text.split('\n').entries()) {
    const place = `${file}:${String(index + 1)}`
    if (line.startsWith('#')) reason = line.slice(1).trim()
    else if (line.trim() === '') reason = ''
    else {
      const match = LINE.exec(line.trimEnd())
      const bounds = new Map(
        [...(match?.[3] ?? '').matchAll(/(\w+)=(\S+)/g)].map(([, key, value]) => [
          String(key),
          String(value),
        ]),
      )
      if (match === null || [...bounds.keys()].some((key) => !['arch', 'before', 'since'].includes(key)))
        problems.push(`${place}: ${line}`)
      else if (reason === '') problems.push(`${place}: ${line}: has no reason in a comment above it`)
      else {
        rows.push({
          name: String(match[1]),
          kind: match[2] as Exception['kind'],
          arches: bounds.get('arch')?.split(',') ?? [],
          before: bounds.get('before'),
          since: bounds.get('since'),
          place,
          reason,
        })
      }
    }
  }
  if (problems.length === 0) return rows
  throw new BuildError('E_INPUT', `${file}: is no list of exceptions`, {
    because: [...problems, 'expected CONFIG_NAME unknown|unmet [arch=A,B] [before=VERSION] [since=VERSION]'],
    hint: `mend ${file}`,
  })
}

/** True when the bounds of an exception hold for a kernel. */
export function holdsFor(exception: Exception, arch: string, version: string): boolean {
  const { arches, before, since } = exception
  return (
    (arches.length === 0 || arches.includes(arch)) &&
    (before === undefined || compareVersions(version, before) < 0) &&
    (since === undefined || compareVersions(version, since) >= 0)
  )
}

/** True when it claims something definite, so that a kernel can prove it wrong. */
export function isDefinite({ kind, before, since }: Exception): boolean {
  return kind === 'unmet' || before !== undefined || since !== undefined
}
