// SPDX-License-Identifier: Apache-2.0
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

import { BuildError } from '../../../scripts/errors.ts'
import { hostPath } from '../../guest.ts'
import type { Guest } from '../../guest.ts'
import type { TarEntry } from './archive.ts'
import { isMet } from './dependency.ts'
import type { OpenPackage } from './package.ts'

/** A file that a package put into the guest, as its database names it. */
export interface InstalledFile {
  /** Path without a leading slash. */
  readonly path: string
  readonly entry: TarEntry
}

/** What is in the guest, and whose it is. */
export interface Installation {
  readonly guest: Guest
  readonly owners: Map<string, OpenPackage>
  /** Files of each package, folders included, in the order of its archive. */
  readonly files: Map<OpenPackage, InstalledFile[]>
  /** Where a folder of the guest is on the host, its links followed. */
  readonly folders: Map<string, string>
  /** Extended attributes by path: written in one go at the end. */
  readonly xattrs: Map<string, ReadonlyMap<string, string>>
}

export function newInstallation(guest: Guest): Installation {
  return { guest, owners: new Map(), files: new Map(), folders: new Map(), xattrs: new Map() }
}

/**
 * Write a package's files into the guest, with owners, modes and times.
 *
 * @throws BuildError E_INPUT when a path leads out of the guest, or a file is another package's
 */
export function unpackPackage(installation: Installation, open: OpenPackage): void {
  const files: InstalledFile[] = []
  // Times of folders come last: what is put into one changes its own.
  const folders: [string, number][] = []
  for (const entry of open.entries) {
    const path = checkedPath(entry.header.name, open)
    if (path === '') continue
    if (!mayWrite(installation, open, path, entry)) continue
    const host = place(installation, path)
    // Device nodes stay out: a user namespace cannot make them, and the packers add their own.
    if (!writeEntry(installation, host, entry, open)) continue
    files.push({ path, entry: entry.header.type === 'link' ? linkedEntry(files, entry, open) : entry })
    installation.owners.set(path, open)
    keepXattrs(installation, path, entry)
    if (entry.header.type === 'directory') folders.push([host, seconds(entry)])
  }
  for (const [host, time] of folders.reverse()) utimesSync(host, time, time)
  installation.files.set(open, files)
}

/** What a hard link shows: the entry of the file that it is another name of. */
function linkedEntry(files: readonly InstalledFile[], entry: TarEntry, open: OpenPackage): TarEntry {
  const target = checkedPath(entry.header.linkname ?? '', open)
  return files.find(({ path }) => path === target)?.entry ?? entry
}

function seconds(entry: TarEntry): number {
  return Math.floor((entry.header.mtime?.getTime() ?? 0) / 1000)
}

/** A path that stays in the tree, without a leading `./` or a slash at the end. */
function checkedPath(name: string, { item }: OpenPackage): string {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.')
  if (!posix.isAbsolute(name) && !parts.includes('..')) return parts.join('/')
  throw new BuildError(
    'E_INPUT',
    `${item.name}-${item.version}: its file ${name} would lie outside of the guest`,
    {
      hint: 'do not use this package; its repository may be hostile',
    },
  )
}

/** Host path of a guest path whose folder is resolved as the guest would. */
function place({ guest, folders }: Installation, path: string): string {
  const folder = posix.dirname(path)
  let host = folders.get(folder)
  if (host === undefined) {
    host = hostPath(guest, folder)
    mkdirSync(host, { recursive: true })
    folders.set(folder, host)
  }
  return join(host, posix.basename(path))
}

/** False when the file stays another package's; folders are shared. */
function mayWrite({ owners }: Installation, open: OpenPackage, path: string, entry: TarEntry): boolean {
  const owner = owners.get(path)
  if (owner === undefined || entry.header.type === 'directory') return true
  const mine = replaces(open, owner)
  const theirs = replaces(owner, open)
  if (mine && (!theirs || open.replacesPriority >= owner.replacesPriority)) return true
  if (theirs) return false
  throw new BuildError('E_INPUT', `${open.item.name} and ${owner.item.name} both have the file /${path}`, {
    because: ['neither says that it replaces the other'],
    hint: 'leave one of the two packages out of EXTRA_PKGS',
  })
}

function replaces(open: OpenPackage, other: OpenPackage): boolean {
  const { name, version } = other.item
  return open.replaces.some((dependency) => isMet(dependency, { name, version }))
}

/** Returns false for what is left out. */
function writeEntry(installation: Installation, host: string, entry: TarEntry, open: OpenPackage): boolean {
  const { header } = entry
  const [uid, gid, mode] = [header.uid ?? 0, header.gid ?? 0, header.mode ?? 0o644]
  const time = seconds(entry)
  const there = lstatSync(host, { throwIfNoEntry: false })
  if (header.type === 'directory') {
    if (there?.isDirectory() !== true) {
      // A link in place of a folder (lib -> usr/lib) stays: the guest would follow it too.
      if (there?.isSymbolicLink() === true) return true
      mkdirSync(host)
    }
    chownSync(host, uid, gid)
    chmodSync(host, mode)
    return true
  }
  if (there !== undefined) {
    if (there.isDirectory()) throw typeChanged(open, header.name)
    rmSync(host)
  }
  switch (header.type) {
    case 'file':
    case 'contiguous-file':
      writeFileSync(host, entry.body, { flag: 'wx' })
      chownSync(host, uid, gid)
      chmodSync(host, mode)
      utimesSync(host, time, time)
      return true
    case 'symlink':
      symlinkSync(header.linkname ?? '', host)
      lchownSync(host, uid, gid)
      lutimesSync(host, time, time)
      return true
    case 'link':
      linkSync(place(installation, checkedPath(header.linkname ?? '', open)), host)
      return true
    case 'character-device':
    case 'block-device':
    case 'fifo':
      if (/^(\.\/)?dev\//.test(header.name)) return false
  }
  throw new BuildError(
    'E_INPUT',
    `${open.item.name}: ${header.name} is a ${header.type ?? 'thing'}, which no guest package has outside of /dev`,
  )
}

function typeChanged({ item }: OpenPackage, name: string): BuildError {
  return new BuildError('E_INPUT', `${item.name}: ${name} is a folder of another package`, {
    hint: 'leave one of the two packages out of EXTRA_PKGS',
  })
}

/** Prefix of an extended attribute in the records of a pax header. Source: tar(1), pax of SCHILY */
const XATTR = 'SCHILY.xattr.'

function keepXattrs({ xattrs }: Installation, path: string, { header }: TarEntry): void {
  const own = Object.entries(header.pax ?? {}).filter(([key]) => key.startsWith(XATTR))
  if (own.length === 0) return
  xattrs.set(path, new Map(own.map(([key, value]) => [key.slice(XATTR.length), String(value)])))
}
