// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { basename, join, relative } from 'node:path'

import type { ArchName } from '../scripts/arch.ts'
import { sha256 } from '../scripts/digest.ts'
import { PROJECT_ROOT } from '../scripts/paths.ts'
import { oneOf } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import { compareBytes } from '../scripts/tree.ts'
import { parseExceptions } from './exceptions.ts'
import type { Exception } from './exceptions.ts'
import { parseFragment } from './fragment.ts'
import type { Asked, Fragment } from './fragment.ts'

const FRAGMENTS = join(PROJECT_ROOT, 'kernel', 'fragments')
const VARIANTS = join(PROJECT_ROOT, 'kernel', 'variants')

/** Name of the list of exceptions in a folder of fragments. */
const EXCEPTIONS = 'exceptions.list'

/** Everything that is asked of a configuration. */
export interface Asking {
  readonly fragments: readonly Fragment[]
  /** By name; what is asked later wins. */
  readonly asked: ReadonlyMap<string, Asked>
  readonly exceptions: readonly Exception[]
  /** Digest of all files it was read from. */
  readonly digest: string
}

/** Names of the variants there are. */
export function variantNames(): string[] {
  return readdirSync(VARIANTS).sort(compareBytes)
}

/**
 * What the configuration of an architecture and its variants is asked for: our topics without those
 * that a variant leaves out, then the variants in the given order, then the user's fragments.
 *
 * @param userFolder KERNEL_FRAGMENTS, or the empty string
 */
export function readAsking(arch: ArchName, variants: readonly string[], userFolder: string): Asking {
  const texts: string[] = []
  const read = (folder: string): Fragment[] =>
    confFiles(folder).map((file) => {
      const text = readFileSync(file, 'utf8')
      texts.push(text)
      return parseFragment(text, shortName(file))
    })
  const chosen = [...variants.flatMap((name) => read(join(VARIANTS, name)))]
  const left = new Set(chosen.flatMap(({ without }) => without))
  const common = [...read(FRAGMENTS), ...read(join(FRAGMENTS, arch))].filter(
    ({ file }) => !left.has(topicOf(file)),
  )
  const fragments = [...common, ...chosen, ...(userFolder === '' ? [] : read(userFolder))].filter(
    ({ arches }) => arches.length === 0 || arches.includes(arch),
  )
  const exceptions = [join(PROJECT_ROOT, 'kernel', EXCEPTIONS), join(userFolder, EXCEPTIONS)].flatMap(
    (file, index) => {
      if (index === 1 && (userFolder === '' || !existsSync(file))) return []
      const text = readFileSync(file, 'utf8')
      texts.push(text)
      return parseExceptions(text, shortName(file))
    },
  )
  const asked = new Map(
    fragments.flatMap((fragment) => fragment.asked.map((row) => [row.name, row] as const)),
  )
  return { fragments, asked, exceptions, digest: sha256(texts.join('\0')) }
}

/** Every fragment of ours, whatever it is for. */
export function allFragments(): Fragment[] {
  return [FRAGMENTS, VARIANTS]
    .flatMap((folder) =>
      readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name)),
    )
    .filter((file) => file.endsWith('.conf'))
    .sort(compareBytes)
    .map((file) => parseFragment(readFileSync(file, 'utf8'), shortName(file)))
}

function confFiles(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.conf') && statSync(join(folder, name)).isFile())
    .sort(compareBytes)
    .map((name) => join(folder, name))
}

/** Ours are named from the project, a user's by their full path. */
function shortName(file: string): string {
  return file.startsWith(`${PROJECT_ROOT}/kernel/`) ? relative(PROJECT_ROOT, file) : file
}

/** `pci` of `kernel/fragments/x86_64/pci.conf`. */
export function topicOf(file: string): string {
  return basename(file, '.conf')
}

/** Settings of the configuration that cannot be met. */
export function checkFragmentSettings(settings: Settings): string[] {
  const names = variantNames()
  const folder = settings.KERNEL_FRAGMENTS
  const unknown = settings.KERNEL_VARIANT.filter((name) => !names.includes(name))
  const problems = unknown.map((name) => `KERNEL_VARIANT=${name}: expected ${oneOf(names)}`)
  if (folder !== '' && !(existsSync(folder) && statSync(folder).isDirectory()))
    problems.push(`KERNEL_FRAGMENTS=${folder}: no such folder`)
  return problems
}
