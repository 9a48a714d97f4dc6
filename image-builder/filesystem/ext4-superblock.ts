// SPDX-License-Identifier: Apache-2.0
import { crc32c, crc32cOfUint32 } from './crc32c.ts'
import { EXTRA_INODE_BYTES } from './ext4-inode.ts'
import {
  DESCRIPTOR_SIZE_BYTES,
  FIRST_FREE_INODE,
  INODE_SIZE_BYTES,
  dataBlocks,
  groupStart,
  metadataBlocks,
} from './ext4-geometry.ts'
import type { Geometry } from './ext4-geometry.ts'

/** Size of the superblock. Unit: bytes. Source: ext4/super.rst */
export const SUPERBLOCK_BYTES = 1024

/** Where the superblock is, whatever the block size. Unit: bytes. Source: ext4/super.rst */
export const SUPERBLOCK_OFFSET_BYTES = 1024

/** Inode of the journal. Source: ext4/special_inodes.rst */
export const JOURNAL_INODE = 8

/** What the checksum of a whole structure starts from. */
export const CHECKSUM_START = 0xffffffff

const SUPERBLOCK_MAGIC = 0xef53
const REVISION_DYNAMIC = 1
const STATE_CLEAN = 1
const ERRORS_CONTINUE = 1
const CHECKSUM_CRC32C = 1
const HASH_HALF_MD4 = 1

/** The hash takes names as signed characters, as on x86; it must not differ by the host. */
const FLAG_SIGNED_HASH = 1

/** `s_jnl_backup_type`: `s_jnl_blocks` is a copy of the journal's inode. */
const JOURNAL_BACKUP_BLOCKS = 1

/** Mount options of a guest that names none: user_xattr and acl, as mke2fs sets them. */
const DEFAULT_MOUNT_OPTIONS = 0x0004 | 0x0008

/** 0xffff: never checked because of the number of mounts. */
const MAX_MOUNT_COUNT = 0xffff

/** Features an older kernel may ignore. Source: ext4/super.rst, `s_feature_compat` */
const COMPATIBLE = {
  // Kata guests mount with data=ordered, which the kernel refuses without a journal.
  hasJournal: 0x0004,
  // File capabilities and SELinux labels.
  extAttr: 0x0008,
  // Lets the guest build hash trees for directories that grow.
  dirIndex: 0x0020,
} as const

/** Features a kernel must know to mount. Source: ext4/super.rst, `s_feature_incompat` */
const INCOMPATIBLE = {
  // File types in directories: readdir without reading inodes.
  filetype: 0x0002,
  // A large file is a few records, not a block map.
  extents: 0x0040,
} as const

/** Features a kernel must know to write. Source: ext4/super.rst, `s_feature_ro_compat` */
const READ_ONLY_COMPATIBLE = {
  // Copies of the superblock in few groups only.
  sparseSuper: 0x0001,
  // Files above 2 GiB.
  largeFile: 0x0002,
  // Files above 2 TiB.
  hugeFile: 0x0008,
  // More than 65000 subdirectories.
  dirNlink: 0x0020,
  // Times after 2038 and to the nanosecond.
  extraIsize: 0x0040,
  // A flipped bit in metadata is found, not followed.
  metadataCsum: 0x0400,
} as const

function bitsOf(features: Readonly<Record<string, number>>): number {
  return Object.values(features).reduce((bits, bit) => bits | bit, 0)
}

/** What a superblock says beside the geometry. */
export interface SuperblockRequest {
  readonly geometry: Geometry
  readonly uuid: Uint8Array
  readonly hashSeed: Uint8Array
  readonly label: Uint8Array
  readonly epochSeconds: number
  readonly reservedBlocks: number
  readonly freeBlocks: number
  readonly freeInodes: number
  /** `i_block` of the journal. */
  readonly journalRoot: Uint8Array
}

/**
 * Encode the copy of the superblock that `group` carries.
 *
 * Source: ext4/super.rst
 */
export function encodeSuperblock(request: SuperblockRequest, group: number): Uint8Array {
  const bytes = new Uint8Array(SUPERBLOCK_BYTES)
  const view = new DataView(bytes.buffer)
  setCounts(view, request)
  setConstants(view)
  setTimes(view, request.epochSeconds)
  setJournal(bytes, view, request)
  view.setUint16(0x5a, group, true) // s_block_group_nr
  bytes.set(request.uuid, 0x68)
  bytes.set(request.label, 0x78)
  bytes.set(request.hashSeed, 0xec)
  view.setUint32(0x3fc, crc32c(CHECKSUM_START, bytes.subarray(0, 0x3fc)), true)
  return bytes
}

function setCounts(view: DataView, request: SuperblockRequest): void {
  const { geometry } = request
  const logBlockSize = Math.log2(geometry.blockSizeBytes / 1024)
  const usedByMetadata = geometry.blockCount - dataBlocks(geometry)
  view.setUint32(0x00, geometry.inodesPerGroup * geometry.groupCount, true)
  view.setUint32(0x04, geometry.blockCount, true)
  view.setUint32(0x08, request.reservedBlocks, true)
  view.setUint32(0x0c, request.freeBlocks, true)
  view.setUint32(0x10, request.freeInodes, true)
  view.setUint32(0x14, geometry.firstDataBlock, true)
  view.setUint32(0x18, logBlockSize, true)
  view.setUint32(0x1c, logBlockSize, true) // s_log_cluster_size
  view.setUint32(0x20, geometry.blocksPerGroup, true)
  view.setUint32(0x24, geometry.blocksPerGroup, true) // s_clusters_per_group
  view.setUint32(0x28, geometry.inodesPerGroup, true)
  view.setUint32(0x248, usedByMetadata + geometry.journalBlocks, true) // s_overhead_clusters
}

function setConstants(view: DataView): void {
  view.setUint16(0x36, MAX_MOUNT_COUNT, true)
  view.setUint16(0x38, SUPERBLOCK_MAGIC, true)
  view.setUint16(0x3a, STATE_CLEAN, true)
  view.setUint16(0x3c, ERRORS_CONTINUE, true)
  view.setUint32(0x4c, REVISION_DYNAMIC, true)
  view.setUint32(0x54, FIRST_FREE_INODE, true)
  view.setUint16(0x58, INODE_SIZE_BYTES, true)
  view.setUint32(0x5c, bitsOf(COMPATIBLE), true)
  view.setUint32(0x60, bitsOf(INCOMPATIBLE), true)
  view.setUint32(0x64, bitsOf(READ_ONLY_COMPATIBLE), true)
  view.setUint8(0xfc, HASH_HALF_MD4)
  view.setUint32(0x100, DEFAULT_MOUNT_OPTIONS, true)
  view.setUint16(0x15c, EXTRA_INODE_BYTES, true) // s_min_extra_isize
  view.setUint16(0x15e, EXTRA_INODE_BYTES, true) // s_want_extra_isize
  view.setUint32(0x160, FLAG_SIGNED_HASH, true)
  view.setUint8(0x175, CHECKSUM_CRC32C)
}

function setTimes(view: DataView, epochSeconds: number): void {
  const high = Math.floor(epochSeconds / 2 ** 32)
  for (const at of [0x30, 0x40, 0x108]) view.setUint32(at, epochSeconds >>> 0, true) // written, checked, made
  for (const at of [0x274, 0x276, 0x277]) view.setUint8(at, high)
}

function setJournal(bytes: Uint8Array, view: DataView, request: SuperblockRequest): void {
  view.setUint32(0xe0, JOURNAL_INODE, true)
  view.setUint8(0xfd, JOURNAL_BACKUP_BLOCKS)
  bytes.set(request.journalRoot, 0x10c)
  const { journalBlocks, blockSizeBytes } = request.geometry
  const sizeBytes = journalBlocks * blockSizeBytes
  view.setUint32(0x148, Math.floor(sizeBytes / 2 ** 32), true)
  view.setUint32(0x14c, sizeBytes >>> 0, true)
}

/** Big-endian magic number of the journal. Source: ext4/journal.rst */
const JOURNAL_MAGIC = 0xc03b3998

/** Block type "superblock, version 2". Source: ext4/journal.rst */
const JOURNAL_SUPERBLOCK_V2 = 4

/**
 * Encode the first block of an empty journal; the others may hold anything.
 *
 * Source: ext4/journal.rst, "Super Block"
 */
export function encodeJournalSuperblock(geometry: Geometry, uuid: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(SUPERBLOCK_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint32(0x00, JOURNAL_MAGIC)
  view.setUint32(0x04, JOURNAL_SUPERBLOCK_V2)
  view.setUint32(0x0c, geometry.blockSizeBytes)
  view.setUint32(0x10, geometry.journalBlocks)
  view.setUint32(0x14, 1) // s_first: the log starts after this block
  view.setUint32(0x18, 1) // s_sequence
  bytes.set(uuid, 0x30)
  view.setUint32(0x40, 1) // s_nr_users
  return bytes
}

/** The inode table of this group is zero where it is unused: the guest need not clear it. */
const GROUP_INODE_ZEROED = 0x0004

/** What a group descriptor says beside the geometry. */
export interface GroupUse {
  readonly freeBlocks: number
  readonly freeInodes: number
  readonly directories: number
  readonly blockBitmap: Uint8Array
  readonly inodeBitmap: Uint8Array
}

/** Block number of the block bitmap of a group; the inode bitmap and the inode table follow it. */
export function blockBitmapBlock(geometry: Geometry, group: number): number {
  const end = groupStart(geometry, group) + metadataBlocks(geometry, group)
  return end - geometry.inodeTableBlocks - 2
}

/**
 * Encode the table of group descriptors.
 *
 * Source: ext4/group_descr.rst
 */
export function encodeDescriptors(
  geometry: Geometry,
  groups: readonly GroupUse[],
  filesystemSeed: number,
): Uint8Array {
  const table = new Uint8Array(geometry.descriptorBlocks * geometry.blockSizeBytes)
  groups.forEach((use, group) => {
    const start = group * DESCRIPTOR_SIZE_BYTES
    const bytes = table.subarray(start, start + DESCRIPTOR_SIZE_BYTES)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    const bitmapBlock = blockBitmapBlock(geometry, group)
    const inodeBitmapBytes = use.inodeBitmap.subarray(0, geometry.inodesPerGroup / 8)
    view.setUint32(0x00, bitmapBlock, true)
    view.setUint32(0x04, bitmapBlock + 1, true)
    view.setUint32(0x08, bitmapBlock + 2, true)
    view.setUint16(0x0c, use.freeBlocks, true)
    view.setUint16(0x0e, use.freeInodes, true)
    view.setUint16(0x10, use.directories, true)
    view.setUint16(0x12, GROUP_INODE_ZEROED, true)
    view.setUint16(0x18, crc32c(filesystemSeed, use.blockBitmap) & 0xffff, true)
    view.setUint16(0x1a, crc32c(filesystemSeed, inodeBitmapBytes) & 0xffff, true)
    view.setUint16(0x1c, use.freeInodes, true) // bg_itable_unused: inodes are taken from the start
    view.setUint16(0x1e, crc32c(crc32cOfUint32(filesystemSeed, group), bytes) & 0xffff, true)
  })
  return table
}
