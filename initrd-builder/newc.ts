// SPDX-License-Identifier: Apache-2.0
import { crc32 } from 'node:zlib'

import type { EntryHeader } from 'cpio-stream'

import { BuildError } from '../scripts/errors.ts'
import type { EntryType, TreeEntry } from '../scripts/tree.ts'

export interface NewcOptions {
  /** Newest time any entry may carry. Unit: seconds since 1970. */
  readonly epochSeconds: number
}

/** One entry of the archive: its header as cpio-stream must receive it, and where its body comes from. */
export interface NewcEntry {
  readonly path: string
  readonly header: Readonly<EntryHeader>
  /** Absent when the entry has no body. */
  readonly body?: NewcBody
}

export interface NewcBody {
  readonly sizeBytes: number
  /** The host path to read, or the bytes themselves. */
  readonly source: string | Uint8Array
}

/** Largest number a header field of eight hexadecimal digits holds. Source: buffer-format.rst (kernel). */
const FIELD_MAX = 0xffffffff

/** The kernel skips, without a word, what is longer. Unit: bytes with the final NUL. Source: init/initramfs.c, do_header. */
const PATH_MAX_BYTES = 4096

/** Header up to the name. Source: buffer-format.rst (kernel). */
const FIXED_HEADER_BYTES = 110

const ARCHIVE_BLOCK_BYTES = 512

/** A name that ends the archive for every reader. Source: buffer-format.rst (kernel). */
const TRAILER_NAME = 'TRAILER!!!'

const S_IFMT = 0o170000
const MODE_OF_TYPE: Readonly<Record<EntryType, number>> = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  'character-device': 0o020000,
  'block-device': 0o060000,
  fifo: 0o010000,
  socket: 0o140000,
}

/**
 * Describe the newc archive of a tree, in the order of `entries`.
 *
 * The root (path `''`) is written as `.`, as `find . | cpio` does: the kernel then gives `/` the
 * rootfs's own owner and mode instead of its default. Extended attributes are not part of the format.
 *
 * @throws BuildError E_INPUT when the format or the kernel cannot carry an entry
 */
export function newcEntries(entries: readonly TreeEntry[], options: NewcOptions): NewcEntry[] {
  const epochSeconds = field('SOURCE_DATE_EPOCH', 'time', options.epochSeconds)
  const nameEntry = nameChecker()
  const linkEntry = linkNumberer(entries)
  return entries.map((entry) => {
    const name = nameEntry(entry)
    const { ino, nlink, isLast } = linkEntry(entry)
    const body = isLast ? bodyOf(entry) : undefined
    const header = {
      name: cpioName(name),
      mode: cpioMode(entry),
      uid: field(entry.path, 'uid', entry.uid),
      gid: field(entry.path, 'gid', entry.gid),
      nlink,
      ino,
      mtime: cpioTime(entry.mtimeSeconds, epochSeconds),
      size: body === undefined ? 0 : field(entry.path, 'size', body.sizeBytes),
      rdevmajor: field(entry.path, 'device major', entry.rdevMajor),
      rdevminor: field(entry.path, 'device minor', entry.rdevMinor),
      ...(entry.type === 'symlink' ? { linkname: linkTargetOf(entry) } : {}),
    }
    return { path: entry.path, header, ...(body === undefined ? {} : { body }) }
  })
}

/**
 * Size of the archive of `entries`, trailer and padding included. Unit: bytes.
 *
 * The end is a multiple of 512, cpio's own block, and so of 4, where the kernel looks for the next
 * archive of a concatenation. cpio-stream 1.4.3 pads by a counter that stops at the first 512 bytes:
 * its archives end anywhere, which the kernel calls "broken padding". So the packer cuts and fills
 * to this size.
 *
 * Source: init/initramfs.c, do_reset.
 */
export function newcSizeBytes(entries: readonly NewcEntry[]): number {
  const sizeBytes = entries.reduce(
    (sum, entry) => sum + entrySizeBytes(entry),
    headerBytes(TRAILER_NAME.length + 1),
  )
  return roundUp(sizeBytes, ARCHIVE_BLOCK_BYTES)
}

/** Size of one entry in the archive, header, body and padding. Unit: bytes. */
export function entrySizeBytes({ header }: NewcEntry): number {
  const bodyBytes = header.linkname === undefined ? header.size : Buffer.byteLength(header.linkname)
  return headerBytes(header.name.length) + roundUp(bodyBytes, 4)
}

function headerBytes(nameBytes: number): number {
  return roundUp(FIXED_HEADER_BYTES + nameBytes, 4)
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit
}

/**
 * Entry name as cpio-stream must receive it.
 *
 * cpio-stream 1.4.3 writes the name's UTF-16 length where the format wants its UTF-8 length, so a
 * name such as `Főtanúsítvány.crt` (Debian ca-certificates) loses its tail. Trailing NULs make the
 * two lengths equal; the encoder drops the surplus.
 *
 * Source: Documentation/driver-api/early-userspace/buffer-format.rst (kernel), field c_namesize.
 */
export function cpioName(name: string): string {
  const nulCount = Buffer.byteLength(name) - name.length + 1
  return name + '\0'.repeat(nulCount)
}

/**
 * Mode as cpio-stream must receive it: the full `st_mode`.
 *
 * cpio-stream 1.4.3 takes permission bits of 0 for "not given" and writes 0644, which would open a
 * mode-000 `/etc/shadow` (Fedora) to everyone. With the type bits the number is never 0.
 */
export function cpioMode(entry: TreeEntry): number {
  if ((entry.mode & S_IFMT) !== MODE_OF_TYPE[entry.type]) {
    throw new Error(`${entry.path}: mode 0o${entry.mode.toString(8)} is not the st_mode of a ${entry.type}`)
  }
  return entry.mode
}

/**
 * Time as cpio-stream must receive it: a `Date`, no newer than the epoch and no older than 1970.
 *
 * cpio-stream 1.4.3 takes the number 0 for "not given" and writes the clock's time, and writes a
 * negative number as `000000-1`; a `Date` is never falsy.
 */
export function cpioTime(mtimeSeconds: number, epochSeconds: number): Date {
  return new Date(Math.max(0, Math.min(mtimeSeconds, epochSeconds)) * 1000)
}

/**
 * Refuse a number that a header field cannot hold.
 *
 * cpio-stream 1.4.3 writes 0xFFFFFFFF for any larger number and says nothing: a file of 4 GiB or
 * more would shift every entry behind it.
 */
function field(subject: string, what: string, value: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= FIELD_MAX) return value
  throw new BuildError('E_INPUT', `${subject}: ${what} ${String(value)} does not fit into an initrd`, {
    because: [`the format holds whole numbers from 0 to ${String(FIELD_MAX)}`],
  })
}

/** Check names as they go by: each once, and each below a directory that is already there. */
function nameChecker(): (entry: TreeEntry) => string {
  const typeOf = new Map<string, EntryType>()
  return (entry) => {
    const { path, type } = entry
    if (typeOf.has(path)) throw new Error(`${path}: listed twice`)
    typeOf.set(path, type)
    if (path === '') return '.'
    requireWritableName(path)
    const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')))
    if (parent !== '' && typeOf.get(parent) !== 'directory') refuseOrphan(path, parent)
    return path
  }
}

/** The kernel makes no parents: an entry whose directory is missing, or comes later, is lost at boot. */
function refuseOrphan(path: string, parent: string): never {
  throw new BuildError('E_INPUT', `${path}: no directory ${parent} before it`, {
    because: ['the kernel drops an entry whose directory it has not made yet; a link to one is not enough'],
  })
}

function requireWritableName(path: string): void {
  if (/(?:^|\/)(?:\.{0,2})(?:\/|$)|\0/.test(path))
    throw new Error(`${JSON.stringify(path)}: not a path below the root`)
  const isReadable = path !== TRAILER_NAME && !/\p{Surrogate}/u.test(path)
  if (isReadable && Buffer.byteLength(path) < PATH_MAX_BYTES) return
  throw new BuildError('E_INPUT', `${path}: an initrd cannot carry this name`, {
    because: [`allowed is UTF-8 of less than ${String(PATH_MAX_BYTES)} bytes other than ${TRAILER_NAME}`],
  })
}

function linkTargetOf({ path, linkTarget = '' }: TreeEntry): string {
  // cpio-stream takes an empty target for "not a link".
  if (linkTarget !== '' && Buffer.byteLength(linkTarget) < PATH_MAX_BYTES) return linkTarget
  throw new BuildError('E_INPUT', `${path}: an initrd cannot carry the target of this link`, {
    because: [`allowed are 1 to ${String(PATH_MAX_BYTES - 1)} bytes`],
  })
}

function bodyOf({ path, type, sizeBytes, source }: TreeEntry): NewcBody | undefined {
  if (type !== 'file') return undefined
  if (source === undefined && sizeBytes > 0)
    throw new Error(`${path}: ${String(sizeBytes)} bytes and no source`)
  return source === undefined ? undefined : { sizeBytes, source }
}

interface LinkNumbers {
  readonly ino: number
  readonly nlink: number
  /** The body goes to this name. */
  readonly isLast: boolean
}

/**
 * Number the inodes by their first names, one number for all names of one inode: a name that comes or goes
 * leaves the numbers of the others as they are.
 *
 * cpio-stream 1.4.3 clamps a 64-bit inode number (xfs, btrfs, overlay) to 0xFFFFFFFF, which makes
 * strangers one group of hard links, and it knows no hard links itself: the names share number and
 * link count, and the body goes to the last name, the only place where the kernel, GNU cpio and
 * libarchive all accept it. Only names in the tree count. A symlink stays alone: its body is its
 * target and the kernel wants it on every name.
 *
 * Source: init/initramfs.c, maybe_link and do_symlink.
 */
function linkNumberer(entries: readonly TreeEntry[]): (entry: TreeEntry) => LinkNumbers {
  const groups = new Map<string, { ino: number; nlink: number; namesLeft: number }>()
  for (const entry of entries) {
    const key = linkKey(entry)
    if (key === undefined) continue
    const nlink = (groups.get(key)?.nlink ?? 0) + 1
    groups.set(key, { ino: 0, nlink, namesLeft: nlink })
  }
  const taken = new Set([0])
  const numberOf = (path: string): number => {
    let number = crc32(path)
    // Rarely two names have one; the second takes the next.
    while (taken.has(number)) number = (number + 1) % (FIELD_MAX + 1)
    taken.add(number)
    return number
  }
  return (entry) => {
    const key = linkKey(entry)
    const group = key === undefined ? undefined : groups.get(key)
    if (group === undefined) return { ino: numberOf(entry.path), nlink: nlinkAlone(entry), isLast: true }
    group.ino ||= numberOf(entry.path)
    group.namesLeft -= 1
    return { ino: group.ino, nlink: group.nlink, isLast: group.namesLeft === 0 }
  }
}

/** A directory's own link count depends on the filesystem (btrfs: always 1). Source: usr/gen_init_cpio.c. */
function nlinkAlone({ type }: TreeEntry): number {
  return type === 'directory' ? 2 : 1
}

function linkKey({ type, linkGroup }: TreeEntry): string | undefined {
  // The kernel joins names only when the type is equal too.
  return linkGroup === undefined || type === 'symlink' || type === 'directory'
    ? undefined
    : `${type} ${linkGroup}`
}
