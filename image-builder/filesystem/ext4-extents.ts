// SPDX-License-Identifier: Apache-2.0
import { crc32c } from './crc32c.ts'
import { groupLength, groupStart, metadataBlocks } from './ext4-geometry.ts'
import type { Geometry } from './ext4-geometry.ts'

/** Magic number of an extent node. Source: ext4/ifork.rst, `eh_magic` */
const EXTENT_MAGIC = 0xf30a

/** Size of an extent node's header, and of each record after it. Unit: bytes. Source: ext4/ifork.rst */
const RECORD_BYTES = 12

/** Size of `i_block`, where the root of the extent tree lives. Unit: bytes. */
export const INODE_BLOCK_BYTES = 60

/** Records that fit in `i_block` after the header. */
export const ROOT_RECORDS = 4

/** Consecutive blocks on disk. */
export interface Extent {
  readonly startBlock: number
  readonly blockCount: number
}

/** Blocks given to one inode. */
export interface Allocation {
  readonly extents: readonly Extent[]
  /** Blocks of the extent tree below the inode. */
  readonly treeBlocks: readonly number[]
  readonly xattrBlock: number | undefined
}

/** Blocks one inode asks for. */
export interface Demand {
  readonly dataBlocks: number
  readonly xattrBlocks: 0 | 1
}

/** Hands out the data blocks of a filesystem from its start to its end. */
export interface Space {
  readonly allocate: (demand: Demand) => Allocation
  /** Blocks handed out; more than there are when the filesystem is too small. */
  readonly takenBlocks: () => number
  /** Blocks in use at the start of a group, metadata included. There are no holes. */
  readonly usedInGroup: (group: number) => number
}

const NO_BLOCKS: readonly number[] = []

/** Start handing out blocks; past the last one they are counted, but not given. */
export function openSpace(geometry: Geometry): Space {
  let group = 0
  let used = metadataBlocks(geometry, 0)
  let taken = 0

  const take = (count: number): Extent[] => {
    const extents: Extent[] = []
    taken += count
    let missing = count
    while (missing > 0 && group < geometry.groupCount) {
      const blockCount = Math.min(missing, groupLength(geometry, group) - used)
      if (blockCount > 0) extents.push({ startBlock: groupStart(geometry, group) + used, blockCount })
      used += blockCount
      missing -= blockCount
      if (missing > 0) used = metadataBlocks(geometry, ++group)
    }
    return extents
  }
  const takeSingly = (count: number): readonly number[] =>
    count === 0 ? NO_BLOCKS : take(count).flatMap(blocksOf)

  return {
    allocate: ({ dataBlocks, xattrBlocks }) => {
      const extents = take(dataBlocks)
      const treeBlocks = takeSingly(treeBlockCount(extents.length, geometry.blockSizeBytes))
      return { extents, treeBlocks, xattrBlock: xattrBlocks === 0 ? undefined : takeSingly(1)[0] }
    },
    takenBlocks: () => taken,
    usedInGroup: (wanted) => {
      if (wanted < group) return groupLength(geometry, wanted)
      return wanted === group ? used : metadataBlocks(geometry, wanted)
    },
  }
}

function blocksOf({ startBlock, blockCount }: Extent): number[] {
  return Array.from({ length: blockCount }, (_, index) => startBlock + index)
}

/** Records in a tree block; at least four bytes are left over for its checksum. */
function recordsPerBlock(blockSizeBytes: number): number {
  return Math.floor((blockSizeBytes - RECORD_BYTES) / RECORD_BYTES)
}

function treeBlockCount(extentCount: number, blockSizeBytes: number): number {
  let blocks = 0
  for (let records = extentCount; records > ROOT_RECORDS;) {
    records = Math.ceil(records / recordsPerBlock(blockSizeBytes))
    blocks += records
  }
  return blocks
}

/** A block of metadata and its content. */
export interface Block {
  readonly block: number
  readonly bytes: Uint8Array
}

/** Extent tree of one inode as written to disk. */
export interface ExtentTree {
  /** Content of `i_block`. */
  readonly root: Uint8Array
  readonly blocks: readonly Block[]
}

interface NodeRecord {
  readonly logicalBlock: number
  readonly physicalBlock: number
  /** Length of an extent; 0 for a pointer to a tree block. */
  readonly blockCount: number
}

/**
 * Encode the extent tree of an inode.
 *
 * Source: ext4/ifork.rst, "Extent Tree"
 */
export function encodeExtentTree(
  { extents, treeBlocks }: Allocation,
  { blockSizeBytes, inodeSeed }: { readonly blockSizeBytes: number; readonly inodeSeed: number },
): ExtentTree {
  const perBlock = recordsPerBlock(blockSizeBytes)
  const blocks: Block[] = []
  let depth = 0
  let records = recordsOf(extents)
  while (records.length > ROOT_RECORDS) {
    const parents: NodeRecord[] = []
    for (let first = 0; first < records.length; first += perBlock) {
      const children = records.slice(first, first + perBlock)
      const bytes = Buffer.alloc(blockSizeBytes)
      encodeNode(bytes, children, { depth, maxRecords: perBlock })
      sealNode(bytes, perBlock, inodeSeed)
      const block = treeBlocks[blocks.length] ?? 0
      blocks.push({ block, bytes })
      parents.push({ logicalBlock: children[0]?.logicalBlock ?? 0, physicalBlock: block, blockCount: 0 })
    }
    records = parents
    depth++
  }
  // A Buffer, not a DataView over an array: for small ones that costs a separate memory block each.
  const root = Buffer.alloc(INODE_BLOCK_BYTES)
  encodeNode(root, records, { depth, maxRecords: ROOT_RECORDS })
  return { root, blocks }
}

function recordsOf(extents: readonly Extent[]): NodeRecord[] {
  let logicalBlock = 0
  return extents.map(({ startBlock, blockCount }) => {
    const record = { logicalBlock, physicalBlock: startBlock, blockCount }
    logicalBlock += blockCount
    return record
  })
}

function encodeNode(
  bytes: Buffer,
  records: readonly NodeRecord[],
  { depth, maxRecords }: { readonly depth: number; readonly maxRecords: number },
): void {
  bytes.writeUInt16LE(EXTENT_MAGIC, 0)
  bytes.writeUInt16LE(records.length, 2)
  bytes.writeUInt16LE(maxRecords, 4)
  bytes.writeUInt16LE(depth, 6)
  records.forEach(({ logicalBlock, physicalBlock, blockCount }, index) => {
    const at = RECORD_BYTES * (index + 1)
    bytes.writeUInt32LE(logicalBlock, at)
    if (depth > 0) {
      bytes.writeUInt32LE(physicalBlock, at + 4)
    } else {
      bytes.writeUInt16LE(blockCount, at + 4)
      bytes.writeUInt32LE(physicalBlock, at + 8)
    }
  })
}

function sealNode(bytes: Buffer, maxRecords: number, inodeSeed: number): void {
  const tailOffset = RECORD_BYTES * (maxRecords + 1)
  bytes.writeUInt32LE(crc32c(inodeSeed, bytes.subarray(0, tailOffset)), tailOffset)
}
