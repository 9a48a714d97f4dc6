// SPDX-License-Identifier: Apache-2.0
import { lstatSync, readdirSync, readlinkSync } from 'node:fs'

import { BuildError } from './errors.ts'

export type EntryType =
  'file' | 'directory' | 'symlink' | 'character-device' | 'block-device' | 'fifo' | 'socket'

/** One name in a rootfs, with all that a packer needs to write it. */
export interface TreeEntry {
  /** Path below the root, without a leading slash; `''` for the root itself. */
  readonly path: string
  readonly type: EntryType
  /** Full `st_mode`: type and permission bits. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Length of a file's content; 0 for everything else. */
  readonly sizeBytes: number
  readonly mtimeSeconds: number
  /** When the inode was last changed on the host; absent for an entry that is no host file. Unit: ms. */
  readonly ctimeMs?: number
  readonly rdevMajor: number
  readonly rdevMinor: number
  /** Target of a symlink. */
  readonly linkTarget?: string
  /** Equal for all names of one inode; absent when the inode has one name. */
  readonly linkGroup?: string
  /** Content of a file: the host path to read, or the bytes themselves. */
  readonly source?: string | Uint8Array
  /** Extended attributes by full name, such as `security.capability`. */
  readonly xattrs?: ReadonlyMap<string, Uint8Array>
}

const S_IFMT = 0o170000
/** Types of entries by the type bits of their mode. Source: inode(7). */
export const TYPE_OF_MODE: ReadonlyMap<number, EntryType> = new Map<number, EntryType>([
  [0o100000, 'file'],
  [0o040000, 'directory'],
  [0o120000, 'symlink'],
  [0o020000, 'character-device'],
  [0o060000, 'block-device'],
  [0o010000, 'fifo'],
  [0o140000, 'socket'],
])

/** Device major number. Source: glibc, `gnu_dev_major`. */
function majorOf(rdev: number): number {
  const wide = BigInt(rdev)
  return Number(((wide >> 8n) & 0xfffn) | ((wide >> 32n) & ~0xfffn))
}

/** Device minor number. Source: glibc, `gnu_dev_minor`. */
function minorOf(rdev: number): number {
  const wide = BigInt(rdev)
  return Number((wide & 0xffn) | ((wide >> 12n) & 0xffffff00n))
}

const ASCII = /^[\0-\x7f]*$/

/** Order two paths by the bytes of their UTF-8 form, the order of `LC_ALL=C sort`. */
export function compareBytes(a: string, b: string): number {
  // UTF-16 order differs from byte order only where surrogates meet U+E000..U+FFFF.
  if (a === b) return 0
  if (ASCII.test(a) && ASCII.test(b)) return a < b ? -1 : 1
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}

/**
 * Every entry below `root` and the root itself, in byte order of the paths.
 *
 * Nothing is opened and no link is followed. Names must be UTF-8.
 *
 * @param finalRoot name the root will have when content is read, for a tree that has a temporary one
 * @throws BuildError E_INPUT when a name is not UTF-8
 */
export function readTree(root: string, finalRoot: string = root): TreeEntry[] {
  const entries: TreeEntry[] = []
  // Made by hand, for join would look at every letter of it again.
  const visit = (path: string, hostPath: string): void => {
    const entry = entryAt(path, hostPath, nameBelow(finalRoot, path))
    entries.push(entry)
    if (entry.type !== 'directory') return
    for (const name of namesIn(hostPath)) visit(path === '' ? name : `${path}/${name}`, `${hostPath}/${name}`)
  }
  visit('', root)
  return sortByPath(entries)
}

/** A path below a root, by the name of the root. Made by hand, for join would look at every letter of it again. */
export function nameBelow(root: string, path: string): string {
  return path === '' ? root : `${root}/${path}`
}

/** Entries in byte order of their paths. */
export function sortByPath(entries: TreeEntry[]): TreeEntry[] {
  // Whether the letters need the slower way is asked once, and not for every two of them.
  return entries.every(({ path }) => ASCII.test(path))
    ? entries.sort((a, b) => (a.path < b.path ? -1 : 1))
    : entries.sort((a, b) => compareBytes(a.path, b.path))
}

function namesIn(directory: string): string[] {
  const names = readdirSync(directory)
  if (names.some((name) => name.includes('\uFFFD'))) refuseBrokenNames(directory)
  return names
}

function refuseBrokenNames(directory: string): void {
  for (const name of readdirSync(directory, { encoding: 'buffer' })) {
    if (Buffer.from(name.toString('utf8')).equals(name)) continue
    throw new BuildError('E_INPUT', `${directory}: a file name is not UTF-8`, {
      because: [`the name's bytes are ${name.toString('hex')}`],
      hint: `ls -b ${directory}    and rename the file`,
    })
  }
}

/**
 * The entry of a host file, as `path` of a tree.
 *
 * @param source the name its content will be read by, when that is not the one it has now
 */
export function entryAt(path: string, hostPath: string, source: string = hostPath): TreeEntry {
  const status = lstatSync(hostPath)
  const type = TYPE_OF_MODE.get(status.mode & S_IFMT)
  if (type === undefined) throw new BuildError('E_INPUT', `${hostPath}: unknown file type`)
  const isDevice = type === 'character-device' || type === 'block-device'
  return {
    path,
    type,
    mode: status.mode,
    uid: status.uid,
    gid: status.gid,
    sizeBytes: type === 'file' ? status.size : 0,
    mtimeSeconds: Math.floor(status.mtimeMs / 1000),
    ctimeMs: status.ctimeMs,
    rdevMajor: isDevice ? majorOf(status.rdev) : 0,
    rdevMinor: isDevice ? minorOf(status.rdev) : 0,
    ...(type === 'symlink' ? { linkTarget: readlinkSync(hostPath) } : {}),
    ...(type === 'file' ? { source } : {}),
    ...(type !== 'directory' && status.nlink > 1 ? { linkGroup: inodeOf(hostPath) } : {}),
  }
}

/** Device and inode as text: inode numbers of xfs, btrfs and overlay pass 2^53. */
function inodeOf(hostPath: string): string {
  const { dev, ino } = lstatSync(hostPath, { bigint: true })
  return `${String(dev)}:${String(ino)}`
}

/** Lay `additions` over `tree`: a path that is there already is replaced. */
export function withEntries(tree: readonly TreeEntry[], additions: readonly TreeEntry[]): TreeEntry[] {
  const added = new Set(additions.map((entry) => entry.path))
  return sortByPath([...tree.filter((entry) => !added.has(entry.path)), ...additions])
}
