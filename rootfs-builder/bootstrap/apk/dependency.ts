// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../../../scripts/errors.ts'
import { satisfies } from './version.ts'
import type { Operator } from './version.ts'

/** `!name@tag>=1.2`: what a package or the user asks for. Source: apk-world(5) */
export interface Dependency {
  readonly name: string
  readonly operator?: Operator
  readonly version?: string
  /** Nothing that fits may be installed. */
  readonly isConflict: boolean
  /** Only from repositories with this tag, or without any. */
  readonly tag?: string
  /** As it was written. */
  readonly text: string
}

/** @throws BuildError E_INPUT when it is no dependency */
export function parseDependency(text: string): Dependency {
  const match = /^(!?)([^<>=~@!]+)(?:@([A-Za-z0-9_.-]+))?(?:([<>=~]{1,2})(.+))?$/.exec(text)
  if (match === null) throw new BuildError('E_INPUT', `${text}: is no dependency of a package`)
  const [, mark, name = '', tag, operator, version] = match
  return {
    name,
    isConflict: mark === '!',
    text,
    ...(tag === undefined ? {} : { tag }),
    // `><` names a checksum, which the version field of an index never holds.
    ...(operator === undefined || version === undefined || operator === '><'
      ? {}
      : { operator: operator as Operator, version }),
  }
}

/** What a package is known by: its own name and version, or a name that it provides. */
export interface Provided {
  readonly name: string
  /** Absent for a name that is provided without version. */
  readonly version?: string
}

/** `so:libc.so=1` or a plain name. */
export function parseProvided(text: string): Provided {
  const at = text.indexOf('=')
  return at === -1 ? { name: text } : { name: text.slice(0, at), version: text.slice(at + 1) }
}

/** True when what is provided is what the dependency names, whether it asks for it or forbids it. */
export function isMet(dependency: Dependency, provided: Provided): boolean {
  if (dependency.name !== provided.name) return false
  if (dependency.operator === undefined || dependency.version === undefined) return true
  return (
    provided.version !== undefined && satisfies(provided.version, dependency.operator, dependency.version)
  )
}
