// SPDX-License-Identifier: Apache-2.0

/** Size of one on-disk inode: 128 bytes of the old layout, then wide times and small xattrs. Unit: bytes. */
export const INODE_SIZE_BYTES = 256

/** Size of a group descriptor without the 64bit feature. Unit: bytes. Source: ext4/group_descr.rst */
export const DESCRIPTOR_SIZE_BYTES = 32

/** Number of the first inode that is not reserved; mke2fs and e2fsck expect lost+found there. */
export const FIRST_FREE_INODE = 11

/** One inode for this many bytes of filesystem. Source: mke2fs.conf, `inode_ratio` */
const INODE_RATIO_BYTES = 16384

/** Inodes that stay free at least, so that a small guest can still create files. */
const MIN_FREE_INODES = 64

/** Blocks a last group must have beside its metadata to be worth having. Source: e2fsprogs, ext2fs_initialize */
const MIN_LAST_GROUP_BLOCKS = 50

/** Block numbers are 32 bits wide without the 64bit feature. */
const MAX_BLOCKS = 2 ** 32 - 1

/** Blocks the kernel keeps for itself: 1/50 of all, at most 4096. Source: ext4_calculate_resv_clusters */
const KERNEL_RESERVE = { divisor: 50, maxBlocks: 4096 } as const

/** Journal length by filesystem length. Unit: blocks. Source: e2fsprogs, ext2fs_default_journal_size */
export const JOURNAL_SIZES = [
  { fromBlocks: 2048, journalBlocks: 1024 },
  { fromBlocks: 32768, journalBlocks: 4096 },
  { fromBlocks: 256 * 1024, journalBlocks: 8192 },
  { fromBlocks: 512 * 1024, journalBlocks: 16384 },
  { fromBlocks: 4096 * 1024, journalBlocks: 32768 },
  { fromBlocks: 8192 * 1024, journalBlocks: 65536 },
  { fromBlocks: 16384 * 1024, journalBlocks: 131072 },
  { fromBlocks: 32768 * 1024, journalBlocks: 262144 },
] as const

export type BlockSizeBytes = 1024 | 2048 | 4096

/** What decides where the metadata of every group lies. */
export interface GeometryRequest {
  readonly blockCount: number
  readonly blockSizeBytes: BlockSizeBytes
  /** Inodes in use, the reserved ones included. */
  readonly usedInodes: number
  /** Inodes wanted in all; default: one per 16 KiB, more when the tree needs them. */
  readonly inodeCount?: number | undefined
}

/**
 * Division of a filesystem into groups.
 *
 * Every group has its metadata at its start (no flex_bg): one rule for all, and the data of a group
 * is one range. No blocks are kept for growing the group table (no resize_inode): a guest image is
 * built anew, not grown while mounted.
 */
export interface Geometry {
  readonly blockSizeBytes: BlockSizeBytes
  readonly blockCount: number
  /** Block that holds the superblock: 1 for 1 KiB blocks, else 0. */
  readonly firstDataBlock: number
  readonly blocksPerGroup: number
  readonly groupCount: number
  readonly inodesPerGroup: number
  readonly inodeTableBlocks: number
  readonly descriptorBlocks: number
  readonly journalBlocks: number
}

/** The geometry of a filesystem, or undefined when no geometry of that length can hold the inodes. */
export function geometryOf(request: GeometryRequest): Geometry | undefined {
  const journal = JOURNAL_SIZES.findLast(({ fromBlocks }) => request.blockCount >= fromBlocks)
  if (journal === undefined || request.blockCount > MAX_BLOCKS) return undefined
  const geometry = divide(request, request.blockCount, journal.journalBlocks)
  const inodeCount = geometry.inodesPerGroup * geometry.groupCount
  const isPossible =
    geometry.inodesPerGroup <= geometry.blocksPerGroup &&
    inodeCount >= request.usedInodes &&
    metadataBlocks(geometry, 0) < groupLength(geometry, 0)
  return isPossible ? geometry : undefined
}

function divide(request: GeometryRequest, blockCount: number, journalBlocks: number): Geometry {
  const { blockSizeBytes } = request
  const firstDataBlock = blockSizeBytes === 1024 ? 1 : 0
  const blocksPerGroup = blockSizeBytes * 8
  const groupCount = Math.ceil((blockCount - firstDataBlock) / blocksPerGroup)
  const inodesPerGroup = inodesPerGroupOf(request, groupCount)
  const geometry = {
    blockSizeBytes,
    blockCount,
    firstDataBlock,
    blocksPerGroup,
    groupCount,
    inodesPerGroup,
    inodeTableBlocks: (inodesPerGroup * INODE_SIZE_BYTES) / blockSizeBytes,
    descriptorBlocks: Math.ceil((groupCount * DESCRIPTOR_SIZE_BYTES) / blockSizeBytes),
    journalBlocks,
  }
  const last = groupCount - 1
  if (last === 0 || groupLength(geometry, last) >= metadataBlocks(geometry, last) + MIN_LAST_GROUP_BLOCKS) {
    return geometry
  }
  return divide(request, groupStart(geometry, last), journalBlocks)
}

function inodesPerGroupOf(request: GeometryRequest, groupCount: number): number {
  const { blockSizeBytes, usedInodes } = request
  const byRatio = Math.floor((request.blockCount * blockSizeBytes) / INODE_RATIO_BYTES)
  const byNeed = Math.max(Math.ceil(usedInodes * 1.1), usedInodes + MIN_FREE_INODES)
  const inodeCount = request.inodeCount ?? Math.max(byRatio, byNeed)
  // Whole blocks of the inode table, and whole bytes of the inode bitmap.
  const step = Math.max(8, blockSizeBytes / INODE_SIZE_BYTES)
  return Math.max(2 * step, Math.ceil(inodeCount / groupCount / step) * step)
}

/** First block of a group. */
export function groupStart(geometry: Geometry, group: number): number {
  return geometry.firstDataBlock + group * geometry.blocksPerGroup
}

/** Blocks in a group; the last one may be shorter. */
export function groupLength(geometry: Geometry, group: number): number {
  return Math.min(geometry.blocksPerGroup, geometry.blockCount - groupStart(geometry, group))
}

/** Whether a group carries a copy of the superblock and group table. Source: ext4/blockgroup.rst, sparse_super */
export function hasSuperblock(group: number): boolean {
  return group <= 1 || [3, 5, 7].some((base) => isPowerOf(base, group))
}

function isPowerOf(base: number, value: number): boolean {
  let power = base
  while (power < value) power *= base
  return power === value
}

/** Blocks of superblock, group table, bitmaps and inode table at the start of a group. */
export function metadataBlocks(geometry: Geometry, group: number): number {
  const copies = hasSuperblock(group) ? 1 + geometry.descriptorBlocks : 0
  return copies + 2 + geometry.inodeTableBlocks
}

/** Blocks of the filesystem that are no group's metadata. */
export function dataBlocks(geometry: Geometry): number {
  let blocks = 0
  for (let group = 0; group < geometry.groupCount; group++) {
    blocks += groupLength(geometry, group) - metadataBlocks(geometry, group)
  }
  return blocks
}

/** Blocks that only root may use. */
export function reservedBlocks(geometry: Geometry, reservedPercent: number): number {
  return Math.floor((geometry.blockCount * reservedPercent) / 100)
}

/** Of `freeBlocks`, those that ordinary users may fill: what `df` of the guest calls available. */
export function availableBlocks(geometry: Geometry, freeBlocks: number, reservedPercent: number): number {
  const kernelReserve = Math.min(
    Math.floor(geometry.blockCount / KERNEL_RESERVE.divisor),
    KERNEL_RESERVE.maxBlocks,
  )
  return Math.max(0, freeBlocks - reservedBlocks(geometry, reservedPercent) - kernelReserve)
}
