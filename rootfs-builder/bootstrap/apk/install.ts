// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join, posix } from 'node:path'

import { BuildError, errnoOf } from '../../../scripts/errors.ts'
import { hostPath } from '../../guest.ts'
import type { Guest } from '../../guest.ts'
import { ownerOf, readAccounts } from './accounts.ts'
import type { Accounts, Owner } from './accounts.ts'
import type { TarEntry } from './archive.ts'
import { isMet } from './dependency.ts'
import type { OpenPackage, PackageFacts } from './package.ts'

/** A file that a package put into the guest, as its database names it. */
export interface InstalledFile extends Owner {
  /** Path without a leading slash, as the package has it; a folder of it may be a link in the guest. */
  readonly path: string
  /** Where it is on the host. */
  readonly host: string
  readonly kind: 'folder' | 'file' | 'link'
  readonly mode: number
  /** sha1 of a file's content or a link's target, in base64; absent for a folder. */
  readonly sha1?: string
  readonly xattrs?: ReadonlyMap<string, Buffer>
}

/** What is in the guest, and whose it is. */
export interface Installation {
  readonly guest: Guest
  /** Who put a file there, by its place on the host. */
  readonly owners: Map<string, PackageFacts>
  /** Files of each package by its name, folders included, in the order of its archive. */
  readonly files: Map<string, InstalledFile[]>
  /** Where a folder of the guest is on the host, its links followed. */
  readonly folders: Map<string, string>
  /** Rights of shared folders by their place on the host. */
  readonly rights: Map<string, Owner & { readonly mode: number }>
  /** Read when they are needed; undefined after they may have changed. */
  accounts: Accounts | undefined
}

export function newInstallation(guest: Guest): Installation {
  return {
    guest,
    owners: new Map(),
    files: new Map(),
    folders: new Map(),
    rights: new Map(),
    accounts: undefined,
  }
}

/** Forget what a script may have changed: links among the folders, users and groups. */
export function forgetTree(installation: Installation): void {
  installation.folders.clear()
  installation.accounts = undefined
}

/**
 * Write a package's files into the guest, with owners, modes and times.
 *
 * @throws BuildError E_INPUT when a path leads out of the guest, or a file is another package's
 */
export function unpackPackage(installation: Installation, { facts, entries }: OpenPackage): void {
  const files = new Map<string, InstalledFile>()
  installation.files.set(facts.item.name, [])
  // Times of folders come last: what is put into one changes its own.
  const folders: [string, number][] = []
  for (const entry of entries) {
    const path = checkedPath(entry.header.name, facts)
    if (isLeftOut(path)) continue
    try {
      const host = place(installation, path, facts)
      if (!mayWrite(installation, facts, { path, host, entry })) continue
      const file = writeEntry(installation, facts, { path, host, entry }, files)
      if (file === undefined) continue
      files.set(path, file)
      if (file.kind === 'folder') folders.push([host, seconds(entry)])
      else own(installation, facts, host)
    } catch (error) {
      throw writeError(error, facts, path)
    }
    // A link may stand in the place of a folder, and users may be among the files.
    if (entry.header.type === 'symlink') installation.folders.clear()
    if (/^etc\/(passwd|group)$/.test(path)) installation.accounts = undefined
  }
  for (const [host, time] of folders.reverse()) utimesSync(host, time, time)
  installation.files.set(facts.item.name, [...files.values()])
}

/** Names that apk does not install: other than files, and marks that keep a folder in git. */
function isLeftOut(path: string): boolean {
  return path === '' || path.startsWith('.') || posix.basename(path).startsWith('.keep_')
}

function seconds(entry: TarEntry): number {
  return Math.floor((entry.header.mtime?.getTime() ?? 0) / 1000)
}

function nameOf({ item }: PackageFacts): string {
  return `${item.name}-${item.version}`
}

/** A path that stays in the tree, without a leading `./` or a slash at the end. */
function checkedPath(name: string, facts: PackageFacts): string {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.')
  const hint = 'do not use this package; its repository may be hostile'
  if (posix.isAbsolute(name) || parts.includes('..')) {
    throw new BuildError('E_INPUT', `${nameOf(facts)}: its file ${name} would lie outside of the guest`, {
      hint,
    })
  }
  // A line feed in a name would be lines of its own in the database.
  if (hasControl(name)) {
    throw new BuildError('E_INPUT', `${nameOf(facts)}: its file ${JSON.stringify(name)} has no plain name`, {
      hint,
    })
  }
  return parts.join('/')
}

/** What is given to setfattr a line each: another line would be of another file. */
const XATTR_NAME = /^[\w.:@+-]+$/

/** The attributes of an entry, as they are kept. */
function checkedXattrs({ xattrs }: TarEntry, path: string, facts: PackageFacts): Pick<TarEntry, 'xattrs'> {
  if (xattrs === undefined) return {}
  const wrong = [...xattrs.keys()].find((name) => !XATTR_NAME.test(name))
  if (wrong === undefined) return { xattrs }
  throw new BuildError('E_INPUT', `${nameOf(facts)}: /${path} has an attribute of no plain name`, {
    because: [JSON.stringify(wrong)],
    hint: 'do not use this package; its repository may be hostile',
  })
}

function hasControl(text: string): boolean {
  return [...text].some((letter) => letter < ' ' || letter === '\u007f' || letter === '\ufffd')
}

/** Errors of the system that tell of a package with contradicting names, not of this machine. */
const CONTRADICTIONS = new Set(['EEXIST', 'EINVAL', 'EISDIR', 'ELOOP', 'ENAMETOOLONG', 'ENOENT', 'ENOTDIR'])

function writeError(error: unknown, facts: PackageFacts, path: string): unknown {
  const errno = errnoOf(error)
  if (error instanceof BuildError || errno === undefined || !CONTRADICTIONS.has(errno)) return error
  return new BuildError('E_INPUT', `${nameOf(facts)}: its file /${path} cannot be written (${errno})`, {
    because: ['another file is where one of its folders should be, or its name is impossible'],
    hint: 'leave the package out of EXTRA_PKGS, or use another mirror with REPO_URL',
    cause: error,
  })
}

/** Host path of a guest path whose folder is resolved as the guest would. */
function place({ guest, folders }: Installation, path: string, facts: PackageFacts): string {
  const folder = posix.dirname(path)
  let host = folders.get(folder)
  if (host === undefined) {
    host = hostPath(guest, folder)
    if (lstatSync(host, { throwIfNoEntry: false })?.isDirectory() === false) {
      throw new BuildError(
        'E_INPUT',
        `${nameOf(facts)}: /${folder} of its /${path} is a file, not a folder`,
        {
          hint: 'leave one of the packages that have it out of EXTRA_PKGS',
        },
      )
    }
    mkdirSync(host, { recursive: true })
    folders.set(folder, host)
  }
  return join(host, posix.basename(path))
}

interface Placed {
  readonly path: string
  readonly host: string
  readonly entry: TarEntry
}

/** False when the file stays another package's; folders are shared. */
function mayWrite({ owners }: Installation, facts: PackageFacts, { path, host, entry }: Placed): boolean {
  const owner = owners.get(host)
  if (owner === undefined || owner === facts || entry.header.type === 'directory') return true
  // Packages made from one source may share a file, in apk too.
  if (owner.item.origin !== '' && owner.item.origin === facts.item.origin) return true
  const mine = replaces(facts, owner)
  const theirs = replaces(owner, facts)
  if (mine && (!theirs || facts.replacesPriority >= owner.replacesPriority)) return true
  if (theirs) return false
  throw new BuildError('E_INPUT', `${facts.item.name} and ${owner.item.name} both have the file /${path}`, {
    because: ['neither says that it replaces the other'],
    hint: 'leave one of the two packages out of EXTRA_PKGS',
  })
}

function replaces(facts: PackageFacts, other: PackageFacts): boolean {
  const { name, version } = other.item
  const provided = [{ name, version }, ...other.item.provides]
  return facts.replaces.some((dependency) => provided.some((one) => isMet(dependency, one)))
}

/** Enter who has a file; a package that had it before has it no more. */
function own({ owners, files }: Installation, facts: PackageFacts, host: string): void {
  const former = owners.get(host)
  if (former !== undefined && former !== facts) {
    const rest = files.get(former.item.name)?.filter((file) => file.host !== host)
    files.set(former.item.name, rest ?? [])
  }
  owners.set(host, facts)
}

/** Write one entry; undefined for what is left out. */
function writeEntry(
  installation: Installation,
  facts: PackageFacts,
  placed: Placed,
  files: ReadonlyMap<string, InstalledFile>,
): InstalledFile | undefined {
  const { path, host, entry } = placed
  const { header, body } = entry
  const owner = ownerOf((installation.accounts ??= readAccounts(installation.guest)), header)
  const mode = header.mode ?? 0o644
  const time = seconds(entry)
  const xattrs = checkedXattrs(entry, path, facts)
  const there = lstatSync(host, { throwIfNoEntry: false })
  if (header.type === 'directory') {
    if (there !== undefined && !there.isDirectory() && !there.isSymbolicLink()) {
      throw new BuildError('E_INPUT', `${nameOf(facts)}: its folder /${path} is a file already`, {
        hint: 'leave one of the packages that have it out of EXTRA_PKGS',
      })
    }
    // A link in place of a folder (lib -> usr/lib) stays: the guest would follow it too.
    if (there?.isSymbolicLink() !== true) writeFolder(installation, host, { ...owner, mode })
    return { path, host, kind: 'folder', ...owner, mode, ...xattrs }
  }
  if (there?.isDirectory() === true) {
    throw new BuildError('E_INPUT', `${nameOf(facts)}: its file /${path} is a folder of another package`, {
      hint: 'leave one of the two packages out of EXTRA_PKGS',
    })
  }
  switch (header.type) {
    case 'file':
    case 'contiguous-file':
      rmSync(host, { force: true })
      writeFileSync(host, body, { flag: 'wx' })
      chownSync(host, owner.uid, owner.gid)
      chmodSync(host, mode)
      utimesSync(host, time, time)
      return { path, host, kind: 'file', ...owner, mode, sha1: sha1(body), ...xattrs }
    case 'symlink': {
      const target = header.linkname ?? ''
      rmSync(host, { force: true })
      symlinkSync(target, host)
      lchownSync(host, owner.uid, owner.gid)
      lutimesSync(host, time, time)
      return { path, host, kind: 'link', ...owner, mode: 0o777, sha1: sha1(target) }
    }
    case 'link': {
      const target = files.get(checkedPath(header.linkname ?? '', facts))
      if (target?.kind !== 'file') {
        throw new BuildError('E_INPUT', `${nameOf(facts)}: /${path} is another name of no file of its own`, {
          because: [`it names ${header.linkname ?? ''}`],
          hint: 'do not use this package; its repository may be hostile',
        })
      }
      if (target.host !== host) {
        rmSync(host, { force: true })
        linkSync(target.host, host)
      }
      return { ...target, path, host }
    }
    case 'character-device':
    case 'block-device':
    case 'fifo':
      // Device nodes stay out: a user namespace cannot make them, and the packers add their own.
      if (path.startsWith('dev/')) return undefined
  }
  throw new BuildError(
    'E_INPUT',
    `${nameOf(facts)}: /${path} is a ${header.type ?? 'thing'}, which no guest package has outside of /dev`,
    { hint: 'leave the package out of EXTRA_PKGS' },
  )
}

function sha1(content: string | Buffer): string {
  return createHash('sha1').update(content).digest('base64')
}

/** Make a folder, or share one: it then has the lowest owner, and no right that one of its packages denies. */
function writeFolder({ rights }: Installation, host: string, asked: Owner & { readonly mode: number }): void {
  if (lstatSync(host, { throwIfNoEntry: false }) === undefined) mkdirSync(host)
  const before = rights.get(host)
  const order = before === undefined ? -1 : asked.uid - before.uid || asked.gid - before.gid
  const now =
    before === undefined || order < 0
      ? asked
      : { ...before, mode: order === 0 ? before.mode & asked.mode : before.mode }
  rights.set(host, now)
  chownSync(host, now.uid, now.gid)
  chmodSync(host, now.mode)
}
