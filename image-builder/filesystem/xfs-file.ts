// SPDX-License-Identifier: Apache-2.0
import { readSync } from 'node:fs'

import { writeAll } from '../../scripts/write-all.ts'
import { crc32c } from './crc32c.ts'
import { CHECKSUM_START } from './ext4-superblock.ts'

/** Reads and writes the parts of an XFS that is a plain file. Source: XFS Algorithms & Data Structures, 3rd edition. */
export interface XfsFile {
  readonly rootInode: bigint
  /** Inodes that lead to no file: lists of a realtime part that is not there. */
  readonly hiddenInodes: readonly bigint[]
  readonly blockBytes: number
  readonly inodeBytes: number
  /** Bytes that are free. */
  readonly freeBytes: number
  readonly read: (offsetBytes: number, lengthBytes: number) => Buffer
  readonly write: (offsetBytes: number, bytes: Uint8Array) => void
  /** Place of an inode. */
  readonly inodeAt: (inode: bigint) => number
  /** Place of a block, by its number in the filesystem. */
  readonly blockAt: (block: bigint) => number
}

/** Places in the superblock. Unit: bytes. Source: the same, "Superblocks" */
const SUPERBLOCK = {
  magic: 0,
  blockSize: 4,
  rootInode: 56,
  realtimeBitmap: 64,
  realtimeSummary: 72,
  agBlocks: 84,
  inodeSize: 104,
  inodesPerBlockLog: 123,
  agBlocksLog: 124,
  freeBlocks: 144,
  dirBlockLog: 192,
} as const

/** `XFSB` */
const MAGIC = 0x58465342

/** Open what mkfs.xfs wrote. */
export function openXfs(fileDescriptor: number): XfsFile {
  const read = (offsetBytes: number, lengthBytes: number): Buffer => {
    const bytes = Buffer.alloc(lengthBytes)
    readSync(fileDescriptor, bytes, 0, lengthBytes, offsetBytes)
    return bytes
  }
  const superblock = read(0, 512)
  if (superblock.readUInt32BE(SUPERBLOCK.magic) !== MAGIC || superblock[SUPERBLOCK.dirBlockLog] !== 0)
    throw new Error('mkfs.xfs wrote something else than was asked for')
  const blockBytes = superblock.readUInt32BE(SUPERBLOCK.blockSize)
  const inodeBytes = superblock.readUInt16BE(SUPERBLOCK.inodeSize)
  const agBlocks = superblock.readUInt32BE(SUPERBLOCK.agBlocks)
  const inodeBits = BigInt(superblock.readUInt8(SUPERBLOCK.inodesPerBlockLog))
  const agBits = BigInt(superblock.readUInt8(SUPERBLOCK.agBlocksLog))
  const blockAt = (block: bigint): number => {
    const group = Number(block >> agBits)
    return (group * agBlocks + Number(block & ((1n << agBits) - 1n))) * blockBytes
  }
  return {
    rootInode: superblock.readBigUInt64BE(SUPERBLOCK.rootInode),
    hiddenInodes: [SUPERBLOCK.realtimeBitmap, SUPERBLOCK.realtimeSummary].map((at) =>
      superblock.readBigUInt64BE(at),
    ),
    blockBytes,
    inodeBytes,
    freeBytes: Number(superblock.readBigUInt64BE(SUPERBLOCK.freeBlocks)) * blockBytes,
    read,
    write: (offsetBytes, bytes) => {
      writeAll(fileDescriptor, bytes, offsetBytes)
    },
    inodeAt: (inode) => blockAt(inode >> inodeBits) + Number(inode & ((1n << inodeBits) - 1n)) * inodeBytes,
    blockAt,
  }
}

/** Put the checksum of a structure into it. */
export function seal(bytes: Buffer, checksumAt: number): void {
  bytes.writeUInt32LE(0, checksumAt)
  bytes.writeUInt32LE(~crc32c(CHECKSUM_START, bytes) >>> 0, checksumAt)
}

/** A run of blocks of a file. */
interface Extent {
  readonly place: bigint
  readonly start: bigint
  readonly count: number
}

/** Places in an inode. Unit: bytes. Source: the same, "Inode Core" */
export const INODE = {
  mode: 2,
  format: 5,
  linkCount: 16,
  wideExtents: 24,
  accessTime: 32,
  modifyTime: 40,
  changeTime: 48,
  sizeBytes: 56,
  extentCount: 76,
  checksum: 100,
  flags2: 120,
  createTime: 144,
  content: 176,
} as const

/** How content is kept in an inode. Source: the same */
export const FORMAT = { device: 0, local: 1, extents: 2, tree: 3 } as const

/** The times are nanoseconds since 1901; the counts of extents are 64 bits wide. */
export const FLAGS2 = { bigTime: 0x8n, wideExtents: 0x10n } as const

/** Where the blocks of an inode are. */
export function extentsOf(xfs: XfsFile, inode: Buffer): Extent[] {
  const isWide = (inode.readBigUInt64BE(INODE.flags2) & FLAGS2.wideExtents) !== 0n
  const format = inode[INODE.format]
  if (format === FORMAT.extents) {
    const count = isWide
      ? Number(inode.readBigUInt64BE(INODE.wideExtents))
      : inode.readUInt32BE(INODE.extentCount)
    return Array.from({ length: count }, (_, index) => extentAt(inode, INODE.content + index * 16))
  }
  if (format !== FORMAT.tree) return []
  // In the inode: the level, the number of records, then keys, then pointers in the second half.
  const count = inode.readUInt16BE(INODE.content + 2)
  const most = Math.floor((xfs.inodeBytes - INODE.content - 4) / 16)
  const pointers = INODE.content + 4 + most * 8
  return Array.from({ length: count }, (_, index) => inode.readBigUInt64BE(pointers + index * 8)).flatMap(
    (block) => extentsBelow(xfs, block),
  )
}

/** Length of the header of a block of a tree, with checksum. Unit: bytes. Source: the same, "Long Format" */
const TREE_HEADER_BYTES = 72

function extentsBelow(xfs: XfsFile, block: bigint): Extent[] {
  const bytes = xfs.read(xfs.blockAt(block), xfs.blockBytes)
  const level = bytes.readUInt16BE(4)
  const count = bytes.readUInt16BE(6)
  if (level === 0)
    return Array.from({ length: count }, (_, index) => extentAt(bytes, TREE_HEADER_BYTES + index * 16))
  const most = Math.floor((xfs.blockBytes - TREE_HEADER_BYTES) / 16)
  const pointers = TREE_HEADER_BYTES + most * 8
  return Array.from({ length: count }, (_, index) => bytes.readBigUInt64BE(pointers + index * 8)).flatMap(
    (below) => extentsBelow(xfs, below),
  )
}

/** 1 bit of state, 54 of place in the file, 52 of place in the filesystem, 21 of length. */
function extentAt(bytes: Buffer, at: number): Extent {
  const high = bytes.readBigUInt64BE(at)
  const low = bytes.readBigUInt64BE(at + 8)
  return {
    place: (high >> 9n) & ((1n << 54n) - 1n),
    start: ((high & 0x1ffn) << 43n) | (low >> 21n),
    count: Number(low & 0x1fffffn),
  }
}
