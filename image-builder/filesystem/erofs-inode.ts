// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../../scripts/errors.ts'
import type { EntryType, TreeEntry } from '../../scripts/tree.ts'
import { BLOCK_BYTES } from './erofs-extents.ts'

/** Inodes stand at multiples of this, and are named by the multiple. Unit: bytes. Source: linux/fs/erofs/erofs_fs.h, EROFS_ISLOTBITS */
export const SLOT_BYTES = 32

/** Length of an inode with a time of its own. Unit: bytes. Source: the same, struct erofs_inode_extended */
export const INODE_BYTES = 64

/** Where the content of an inode is. Source: the same, EROFS_INODE_FLAT_PLAIN and following */
export const DATA_LAYOUTS = { plain: 0, compressed: 1, inline: 2 } as const

export type DataLayout = keyof typeof DATA_LAYOUTS

/** Numbers of file types in directories. Source: linux/include/linux/fs_types.h */
export const TYPE_CODES: Readonly<Record<EntryType, number>> = {
  file: 1,
  directory: 2,
  'character-device': 3,
  'block-device': 4,
  fifo: 5,
  socket: 6,
  symlink: 7,
}

/** The fixed part of one inode. */
export interface Inode {
  readonly entry: TreeEntry
  readonly layout: DataLayout
  readonly sizeBytes: number
  /** First block of the content, number of compressed blocks, or device. */
  readonly place: number
  readonly number: number
  readonly linkCount: number
  readonly mtimeSeconds: number
  readonly xattrBytes: number
}

/** Encode an inode. Source: linux/fs/erofs/erofs_fs.h, struct erofs_inode_extended */
export function encodeInode(inode: Inode): Buffer {
  const bytes = Buffer.alloc(INODE_BYTES)
  const { entry, xattrBytes } = inode
  bytes.writeUInt16LE(1 | (DATA_LAYOUTS[inode.layout] << 1), 0)
  bytes.writeUInt16LE(xattrBytes === 0 ? 0 : (xattrBytes - XATTR_HEADER_BYTES) / 4 + 1, 2)
  bytes.writeUInt16LE(entry.mode & 0xffff, 4)
  bytes.writeBigUInt64LE(BigInt(inode.sizeBytes), 8)
  bytes.writeUInt32LE(inode.place, 16)
  bytes.writeUInt32LE(inode.number, 20)
  bytes.writeUInt32LE(entry.uid, 24)
  bytes.writeUInt32LE(entry.gid, 28)
  bytes.writeBigInt64LE(BigInt(inode.mtimeSeconds), 32)
  bytes.writeUInt32LE(inode.linkCount, 44)
  return bytes
}

/** A device number as it is stored. Source: linux/kdev_t.h, `new_encode_dev` */
export function deviceNumber({ path, rdevMajor: major, rdevMinor: minor }: TreeEntry): number {
  if (major > 0xfff || minor > 0xfffff)
    throw new BuildError(
      'E_INPUT',
      `${path}: device ${String(major)}:${String(minor)} is beyond what EROFS stores`,
    )
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0
}

/** Header of the xattrs of an inode. Unit: bytes. Source: linux/fs/erofs/erofs_fs.h, struct erofs_xattr_ibody_header */
const XATTR_HEADER_BYTES = 12

/** Prefixes that are stored as a number. Source: the same, EROFS_XATTR_INDEX_USER and following */
const NAME_INDEXES = [
  { prefix: 'user.', index: 1 },
  { prefix: 'system.posix_acl_access', index: 2 },
  { prefix: 'system.posix_acl_default', index: 3 },
  { prefix: 'trusted.', index: 4 },
  { prefix: 'security.', index: 6 },
] as const

/**
 * What follows the inode of an entry with extended attributes; empty without any.
 *
 * @throws BuildError E_INPUT when one cannot be stored
 */
export function encodeXattrs({ path, xattrs }: TreeEntry): Buffer {
  if (xattrs === undefined || xattrs.size === 0) return Buffer.alloc(0)
  const parts = [Buffer.alloc(XATTR_HEADER_BYTES)]
  for (const [fullName, value] of xattrs) {
    const known = NAME_INDEXES.find(({ prefix }) => fullName.startsWith(prefix))
    const name = Buffer.from(fullName.slice(known?.prefix.length))
    if (known === undefined || name.length > 255 || value.length > 0xffff) {
      throw new BuildError('E_INPUT', `${path}: extended attribute ${fullName} cannot be stored in EROFS`, {
        because: [`stored are: ${NAME_INDEXES.map(({ prefix }) => prefix).join(' ')}`],
        hint: `setfattr -x ${fullName} ${path}`,
      })
    }
    const head = Buffer.from([name.length, known.index, 0, 0])
    head.writeUInt16LE(value.length, 2)
    const entry = Buffer.concat([head, name, value])
    parts.push(entry, Buffer.alloc(-entry.length & 3))
  }
  return Buffer.concat(parts)
}

/** One name in a directory. */
export interface Name {
  readonly name: string
  readonly slot: number
  readonly type: EntryType
}

const DIRENT_BYTES = 12

/** How names are spread over blocks: the number of names in each, and the length of the whole. */
export interface DirectoryShape {
  readonly counts: readonly number[]
  readonly sizeBytes: number
}

/** The shape of a directory with these names, in their order. */
export function shapeDirectory(names: readonly string[]): DirectoryShape {
  const counts: number[] = []
  let used = BLOCK_BYTES + 1
  for (const name of names) {
    const bytes = DIRENT_BYTES + Buffer.byteLength(name)
    if (used + bytes > BLOCK_BYTES) {
      counts.push(0)
      used = 0
    }
    counts[counts.length - 1] = (counts.at(-1) ?? 0) + 1
    used += bytes
  }
  return { counts, sizeBytes: (counts.length - 1) * BLOCK_BYTES + used }
}

/**
 * Encode a directory: in each block the records, then their names.
 *
 * Source: linux, Documentation/filesystems/erofs.rst, "Directories"
 */
export function encodeDirectory(names: readonly Name[], { counts, sizeBytes }: DirectoryShape): Buffer {
  const bytes = Buffer.alloc(sizeBytes)
  let first = 0
  counts.forEach((count, block) => {
    const start = block * BLOCK_BYTES
    let nameAt = count * DIRENT_BYTES
    names.slice(first, first + count).forEach(({ name, slot, type }, index) => {
      const at = start + index * DIRENT_BYTES
      bytes.writeBigUInt64LE(BigInt(slot), at)
      bytes.writeUInt16LE(nameAt, at + 8)
      bytes.writeUInt8(TYPE_CODES[type], at + 10)
      nameAt += bytes.write(name, start + nameAt)
    })
    first += count
  })
  return bytes
}
