// SPDX-License-Identifier: Apache-2.0
import type { EntryType } from '../../scripts/tree.ts'
import { crc32c, crc32cOfUint32 } from './crc32c.ts'
import { INODE_BLOCK_BYTES } from './ext4-extents.ts'
import { INODE_SIZE_BYTES } from './ext4-geometry.ts'

/** Part of an inode that every ext filesystem has. Unit: bytes. */
const OLD_INODE_BYTES = 128

/** Fields after the old part, up to `i_projid`. Unit: bytes. Source: ext4/inodes.rst, `i_extra_isize` */
export const EXTRA_INODE_BYTES = 32

/** Room for xattrs at the end of an inode. Unit: bytes. */
export const INODE_XATTR_BYTES = INODE_SIZE_BYTES - OLD_INODE_BYTES - EXTRA_INODE_BYTES

/** The inode's blocks are in an extent tree. Source: ext4/inodes.rst, EXT4_EXTENTS_FL */
export const EXTENTS_FLAG = 0x80000

/** Sectors in which `i_blocks` counts. Unit: bytes. */
const SECTOR_BYTES = 512

/** Seconds that 34 bits hold, from 1901-12-13 to 2446-05-10. Source: ext4/inodes.rst, "Inode Timestamps" */
const TIME_RANGE = { min: -(2 ** 31), max: 2 ** 34 - 2 ** 31 - 1 } as const

/** Type bits of `i_mode`, and `file_type` in a directory. Source: ext4/inodes.rst, ext4/directory.rst */
export const FILE_TYPES: Readonly<Record<EntryType, { readonly mode: number; readonly code: number }>> = {
  file: { mode: 0o100000, code: 1 },
  directory: { mode: 0o040000, code: 2 },
  'character-device': { mode: 0o020000, code: 3 },
  'block-device': { mode: 0o060000, code: 4 },
  fifo: { mode: 0o010000, code: 5 },
  socket: { mode: 0o140000, code: 6 },
  symlink: { mode: 0o120000, code: 7 },
}

/** Permission bits with setuid, setgid and sticky. */
export const PERMISSION_BITS = 0o7777

/** Content of one inode. */
export interface Inode {
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly sizeBytes: number
  readonly linkCount: number
  /** Bytes on disk: content, extent tree and xattr block. */
  readonly allocatedBytes: number
  readonly flags: number
  readonly mtimeSeconds: number
  /** Every other time. */
  readonly epochSeconds: number
  /** `i_block`: extent tree root, target of a short symlink, or device number. */
  readonly block: Uint8Array
  readonly xattrBlock: number
  readonly xattrs: Uint8Array | undefined
}

/** Seed of the checksums of all metadata that belongs to one inode; the generation is always 0. */
export function inodeSeedOf(filesystemSeed: number, inode: number): number {
  return crc32cOfUint32(crc32cOfUint32(filesystemSeed, inode), 0)
}

/**
 * Write one inode into `bytes`, which must be zero and as long as an inode.
 *
 * Source: ext4/inodes.rst
 */
export function encodeInode(bytes: Uint8Array, inode: Inode, inodeSeed: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const sectors = inode.allocatedBytes / SECTOR_BYTES
  view.setUint16(0x00, inode.mode, true)
  view.setUint16(0x02, inode.uid & 0xffff, true)
  setWide(view, { low: 0x04, high: 0x6c }, inode.sizeBytes)
  setTime(view, { seconds: 0x08, extra: 0x8c }, inode.epochSeconds) // i_atime
  setTime(view, { seconds: 0x0c, extra: 0x84 }, inode.epochSeconds) // i_ctime
  setTime(view, { seconds: 0x10, extra: 0x88 }, inode.mtimeSeconds) // i_mtime
  setTime(view, { seconds: 0x90, extra: 0x94 }, inode.epochSeconds) // i_crtime
  view.setUint16(0x18, inode.gid & 0xffff, true)
  view.setUint16(0x1a, inode.linkCount, true)
  view.setUint32(0x1c, sectors >>> 0, true)
  view.setUint16(0x74, Math.floor(sectors / 2 ** 32), true)
  view.setUint32(0x20, inode.flags, true)
  bytes.set(inode.block, 0x28)
  view.setUint32(0x68, inode.xattrBlock, true)
  view.setUint16(0x78, inode.uid >>> 16, true)
  view.setUint16(0x7a, inode.gid >>> 16, true)
  view.setUint16(0x80, EXTRA_INODE_BYTES, true)
  if (inode.xattrs !== undefined) bytes.set(inode.xattrs, OLD_INODE_BYTES + EXTRA_INODE_BYTES)
  const checksum = crc32c(inodeSeed, bytes)
  view.setUint16(0x7c, checksum & 0xffff, true)
  view.setUint16(0x82, checksum >>> 16, true)
}

function setWide(view: DataView, at: { readonly low: number; readonly high: number }, value: number): void {
  view.setUint32(at.low, value >>> 0, true)
  view.setUint32(at.high, Math.floor(value / 2 ** 32), true)
}

/** Low 32 bits are signed; two bits of the nanosecond field count the times they wrapped. */
function setTime(
  view: DataView,
  at: { readonly seconds: number; readonly extra: number },
  seconds: number,
): void {
  const time = Math.min(Math.max(Math.floor(seconds), TIME_RANGE.min), TIME_RANGE.max)
  const low = time | 0
  view.setInt32(at.seconds, low, true)
  view.setUint32(at.extra, (time - low) / 2 ** 32, true)
}

/** Largest device numbers of the new encoding. Source: linux/kdev_t.h, `new_encode_dev` */
export const MAX_DEVICE = { major: 0xfff, minor: 0xfffff } as const

/** `i_block` of a device: 16-bit number in the first word, or 32-bit number in the second. */
export function encodeDevice(major: number, minor: number): Uint8Array {
  const block = new Uint8Array(INODE_BLOCK_BYTES)
  const view = new DataView(block.buffer)
  if (major < 256 && minor < 256) {
    view.setUint32(0, (major << 8) | minor, true)
  } else {
    view.setUint32(4, (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12), true)
  }
  return block
}

/** `i_block` of a symlink whose target fits there. */
export function encodeShortTarget(target: Uint8Array): Uint8Array {
  const block = new Uint8Array(INODE_BLOCK_BYTES)
  block.set(target)
  return block
}
