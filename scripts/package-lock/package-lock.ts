// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, statSync } from 'node:fs'
import { basename } from 'node:path'

import type { Json } from '../digest.ts'
import { BuildError } from '../errors.ts'
import { checkLock } from './lock-check.ts'
import { givenSettings } from '../settings.ts'
import type { Settings } from '../settings.ts'
import { writeWhole } from '../temporary.ts'
import { compareBytes } from '../tree.ts'

/** A file that is known exactly. */
export interface LockedFile {
  readonly url: string
  readonly sizeBytes: number
  readonly sha256: string
}

/** A signed index that named the packages when they were locked. */
export interface LockedIndex extends LockedFile {
  /** Suite of an apt archive, line of an apk repository, id of an rpm one. */
  readonly name: string
  /** What the addresses of its packages begin with. */
  readonly archive: string
  /** Keys whose signatures held. */
  readonly signers: readonly string[]
  /** Date inside the index, where it has one. Unit: seconds since 1970. */
  readonly dateSeconds?: number
  /** Lists of packages that the index names by their digests. */
  readonly lists?: readonly (LockedFile & { readonly path: string })[]
}

/** One package: of apt, apk or dnf alike. */
export interface LockedPackage extends LockedFile {
  readonly name: string
  readonly version: string
  readonly arch: string
  /** Name of the index it is from. */
  readonly index: string
  /** Key that signed the package itself, where packages are signed. */
  readonly signer?: string
  /** Comes with EXTRA_PKGS, over the distro's own set. */
  readonly layer?: 'extra'
  /** What an apt archive says in place of the package's own words. */
  readonly priority?: string
  readonly section?: string
  /** Lines of an apk index, which the guest's database keeps. */
  readonly record?: readonly string[]
}

/** What was asked for; another question is not answered by the same packages. */
export interface AskedGuest {
  readonly distro: string
  readonly release: string
  readonly arch: string
  /** Package manager: apt, apk or dnf. */
  readonly manager: string
  readonly components: readonly string[]
  /** Repositories beside the distro's own. */
  readonly repositories: readonly string[]
  /** The distro's own set, and what EXTRA_PKGS adds to it. */
  readonly asked: readonly string[]
  readonly extra: readonly string[]
}

/** All packages of a guest, and where they are from. */
export interface LockedGuest extends AskedGuest {
  /** The mirror it was locked with; REPO_URL may name another one that has the same. */
  readonly mirror: string
  readonly indexes: readonly LockedIndex[]
  readonly packages: readonly LockedPackage[]
}

/** Sources of a guest kernel: a file, or a commit. */
export interface LockedKernel {
  /** Settings that chose them, as they were given. */
  readonly asked: Readonly<Record<string, string>>
  readonly title: string
  /** What decides the sources, as the kernel's fingerprint has it. */
  readonly identity: Readonly<Record<string, string>>
  readonly file?: LockedFile
  readonly git?: { readonly repo: string; readonly commit: string }
  /** Keys whose signatures held. */
  readonly signers: readonly string[]
  /** The signed index that names the file. */
  readonly indexes: readonly LockedIndex[]
}

/** An agent that is built from a repository. */
export interface LockedAgent {
  readonly repo: string
  /** AGENT_VERSION as it was given. */
  readonly version: string
  readonly commit: string
}

export const LOCK_FORMAT = 'osbuilder-lock-1'

export interface Lock {
  readonly format: typeof LOCK_FORMAT
  readonly guests: readonly LockedGuest[]
  readonly agents: readonly LockedAgent[]
  readonly kernels: readonly LockedKernel[]
}

/** A lock and the file it was read from. */
export interface OpenLock {
  readonly file: string
  readonly lock: Lock
}

export const EMPTY_LOCK: Lock = { format: LOCK_FORMAT, guests: [], agents: [], kernels: [] }

/**
 * The lock of this project, or undefined when there is none. What is no regular file, as /dev/null, is none.
 *
 * @throws BuildError E_CONFIG when LOCK_FILE names a file that is not there, E_INPUT when it is no lock
 */
export function openLock(settings: Pick<Settings, 'LOCK_FILE'>): OpenLock | undefined {
  const file = settings.LOCK_FILE
  if (!existsSync(file)) {
    if (givenSettings()['LOCK_FILE'] === undefined) return undefined
    throw new BuildError('E_CONFIG', `LOCK_FILE=${file}: no such file`, {
      hint: 'make lock    writes it; LOCK_FILE=/dev/null builds without a lock',
    })
  }
  return statSync(file).isFile() ? { file, lock: readLock(file) } : undefined
}

/** The error for a build that may ask nobody and has no lock. */
export function offlineWithoutLock(file: string, command: string = 'make lock vendor'): BuildError {
  return new BuildError('E_CONFIG', 'OFFLINE=yes: builds what a lock names, and there is none', {
    because: [`LOCK_FILE=${file}`],
    hint: `${command}    writes it and gathers its packages, where there is a network`,
  })
}

/** As openLock, where the file may be about to be written. */
export function lockToWrite(file: string): Lock {
  if (!existsSync(file)) return EMPTY_LOCK
  if (statSync(file).isFile()) return readLock(file)
  throw new BuildError('E_CONFIG', `LOCK_FILE=${file}: is no file that a lock can be written to`, {
    hint: 'leave LOCK_FILE out, or name a file',
  })
}

/** @throws BuildError E_INPUT when the file is no lock, naming the first thing in it that is wrong */
export function readLock(file: string): Lock {
  const problem = (why: string, cause?: unknown): BuildError =>
    new BuildError('E_INPUT', `${basename(file)}: is not a lock of osbuilder`, {
      because: [why],
      hint: `git checkout -- ${basename(file)}    or remove it and run: make lock`,
      cause,
    })
  let value: unknown
  try {
    value = JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw problem(error instanceof Error ? error.message : String(error), error)
  }
  const wrong = checkLock(value, LOCK_FORMAT)
  if (wrong !== undefined) throw problem(wrong)
  return value as Lock
}

/** Write a lock in one move. */
export function writeLock(file: string, lock: Lock): void {
  writeWhole(file, lockText(lock))
}

/** A lock as text: sorted, a package a line, so that a change of one changes one line. */
export function lockText(lock: Lock): string {
  const guests = [...lock.guests].sort((a, b) => compareBytes(keyOf(a), keyOf(b))).map(sortedGuest)
  const agents = [...lock.agents].sort((a, b) => compareBytes(JSON.stringify(a), JSON.stringify(b)))
  const kernels = [...lock.kernels].sort((a, b) =>
    compareBytes(JSON.stringify(a.asked), JSON.stringify(b.asked)),
  )
  return `${render({ format: LOCK_FORMAT, guests, agents, kernels } as unknown as Json, '')}\n`
}

function keyOf({ distro, release, arch, asked, extra }: AskedGuest): string {
  return [distro, release, arch, ...asked, '+', ...extra].join('\0')
}

function sortedGuest(guest: LockedGuest): LockedGuest {
  const { distro, release, arch, manager, mirror, components, repositories, asked, extra } = guest
  const packages = [...guest.packages].sort((a, b) =>
    compareBytes([a.name, a.version, a.arch].join('\0'), [b.name, b.version, b.arch].join('\0')),
  )
  const head = { distro, release, arch, manager, mirror, components, repositories, asked, extra }
  return { ...head, indexes: guest.indexes, packages }
}

/** Longest list of words that stays on a line. Unit: characters. */
const WIDTH = 100

/** Lists whose members each have a line to themselves, whatever is in them. */
const A_LINE_EACH = new Set(['packages', 'lists'])

function render(value: Json, indent: string, name: string = ''): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const isList = Array.isArray(value)
  const members = isList
    ? (value as readonly Json[]).map((item): [string, Json] => ['', item])
    : Object.entries(value as Record<string, Json>).filter(([, item]) => item !== undefined)
  const isFlat = members.every(([, item]) => typeof item !== 'object')
  const [open, close] = isList ? ['[', ']'] : ['{', '}']
  const word = ([key, item]: [string, Json], inner: string): string =>
    isList
      ? A_LINE_EACH.has(name)
        ? onOneLine(item)
        : render(item, inner)
      : `${JSON.stringify(key)}: ${render(item, inner, key)}`
  if (members.length === 0) return `${open}${close}`
  if (isFlat) {
    const line = members.map((member) => word(member, '')).join(', ')
    if (!isList) return `{ ${line} }`
    if (line.length <= WIDTH) return `[${line}]`
  }
  const inner = `${indent}  `
  const lines = members.map((member) => `${inner}${word(member, inner)}`)
  return `${open}\n${lines.join(',\n')}\n${indent}${close}`
}

function onOneLine(value: Json): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${(value as readonly Json[]).map(onOneLine).join(', ')}]`
  const members = Object.entries(value as Record<string, Json | undefined>)
    .filter(([, item]) => item !== undefined)
    .map(([key, item]) => `${JSON.stringify(key)}: ${onOneLine(item)}`)
  return `{ ${members.join(', ')} }`
}
