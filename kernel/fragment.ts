// SPDX-License-Identifier: Apache-2.0
import { ARCH_NAMES } from '../scripts/arch.ts'
import { BuildError } from '../scripts/errors.ts'

/** One symbol that a fragment asks for. */
export interface Asked {
  readonly name: string
  /** `y`, `m`, a number or a text in quotes; `n` for one that must not be set. */
  readonly value: string
  /** File and line, for messages. */
  readonly place: string
  /** The comment above it: why it is asked for. */
  readonly reason: string
}

export interface Fragment {
  readonly file: string
  /** Architectures it is for; empty: all. */
  readonly arches: readonly string[]
  /** Topics that a variant leaves out. */
  readonly without: readonly string[]
  readonly asked: readonly Asked[]
}

const SET = /^CONFIG_(\w+)=(\S.*?)\s*$/
const UNSET = /^# CONFIG_(\w+) is not set\s*$/
const HEADER = /^# *(arch|without): *(.*)$/

/**
 * Read a fragment: lines of a kernel configuration, each group under a comment that gives its reason.
 *
 * `# arch: …` names the architectures it is for, `# without: …` topics that it replaces.
 *
 * @throws BuildError E_INPUT with every line that is none of these
 */
export function parseFragment(text: string, file: string): Fragment {
  const headers = { arch: [] as string[], without: [] as string[] }
  const asked: Asked[] = []
  const problems: string[] = []
  let reason: string[] = []
  let isReasonUsed = false
  for (const [index, line] of text.split('\n').entries()) {
    const place = `${file}:${String(index + 1)}`
    const set = SET.exec(line) ?? UNSET.exec(line)
    const header = HEADER.exec(line)
    if (set !== null) {
      asked.push({ name: String(set[1]), value: set[2] ?? 'n', place, reason: reason.join(' ') })
      isReasonUsed = true
    } else if (header !== null) headers[header[1] as 'arch' | 'without'].push(...words(String(header[2])))
    else if (line.startsWith('#')) {
      if (isReasonUsed) reason = []
      isReasonUsed = false
      reason.push(line.slice(1).trim())
    } else if (line.trim() === '') reason = []
    else problems.push(`${place}: ${line.trim()}`)
  }
  problems.push(...twice(asked))
  problems.push(
    ...headers.arch
      .filter((name) => !(ARCH_NAMES as readonly string[]).includes(name))
      .map((name) => `${file}: arch: ${name} is none of ${ARCH_NAMES.join(', ')}`),
  )
  if (problems.length === 0) return { file, arches: headers.arch, without: headers.without, asked }
  throw new BuildError('E_INPUT', `${file}: is no fragment of a kernel configuration`, {
    because: [...problems.slice(0, 8), 'expected CONFIG_NAME=value, # CONFIG_NAME is not set, or a comment'],
    hint: `mend ${file}`,
  })
}

function words(text: string): string[] {
  return text.split(/[\s,]+/).filter((word) => word !== '')
}

/** One fragment says a thing once. */
function twice(asked: readonly Asked[]): string[] {
  const seen = new Map<string, Asked>()
  const problems: string[] = []
  for (const row of asked) {
    const first = seen.get(row.name)
    if (first !== undefined) problems.push(`${row.place}: CONFIG_${row.name} is in ${first.place} already`)
    seen.set(row.name, row)
  }
  return problems
}
