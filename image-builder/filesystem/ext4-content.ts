// SPDX-License-Identifier: Apache-2.0
import type { TreeEntry } from '../../scripts/tree.ts'
import { encodeDirectory } from './ext4-directory.ts'
import { encodeExtentTree } from './ext4-extents.ts'
import type { Allocation } from './ext4-extents.ts'
import { INODE_SIZE_BYTES } from './ext4-geometry.ts'
import type { Geometry } from './ext4-geometry.ts'
import {
  EXTENTS_FLAG,
  FILE_TYPES,
  PERMISSION_BITS,
  encodeDevice,
  encodeInode,
  encodeShortTarget,
  inodeSeedOf,
} from './ext4-inode.ts'
import type { Inode } from './ext4-inode.ts'
import type { TreeNode } from './ext4-nodes.ts'
import { JOURNAL_INODE } from './ext4-superblock.ts'
import { sealXattrBlock } from './ext4-xattr.ts'

/** Bytes to write at a place. */
export interface BytesPiece {
  readonly offsetBytes: number
  readonly bytes: Uint8Array
}

/** A part of a host file to copy to a place. */
export interface FilePiece {
  readonly offsetBytes: number
  readonly hostPath: string
  readonly lengthBytes: number
  /** The file must be at its end after this piece. */
  readonly isLast: boolean
}

/** One run of bytes in the filesystem. */
export type Piece = BytesPiece | FilePiece

/** Where pieces and inodes are collected. */
export interface Collector {
  readonly geometry: Geometry
  readonly filesystemSeed: number
  readonly epochSeconds: number
  readonly pieces: Piece[]
  /** The used part of the inode table of each group. */
  readonly inodeTables: readonly Uint8Array[]
}

/** Collect the content, the xattrs and the inode of one node. */
export function addNode(collector: Collector, node: TreeNode, allocation: Allocation): void {
  const { entry, xattrs } = node
  const { filesystemSeed, geometry, epochSeconds } = collector
  addContent(collector, node, allocation)
  if (xattrs.inBlock !== undefined && allocation.xattrBlock !== undefined) {
    sealXattrBlock(xattrs.inBlock, allocation.xattrBlock, filesystemSeed)
    addBytes(collector, [{ startBlock: allocation.xattrBlock, blockCount: 1 }], xattrs.inBlock)
  }
  addInode(collector, node.inode, {
    mode: FILE_TYPES[entry.type].mode | (entry.mode & PERMISSION_BITS),
    uid: entry.uid,
    gid: entry.gid,
    sizeBytes: sizeOf(node, geometry),
    linkCount: node.linkCount,
    allocatedBytes: allocatedBytes(allocation, geometry),
    ...rootOf(collector, node, allocation),
    // No file of an image is younger than the image.
    mtimeSeconds: Math.min(entry.mtimeSeconds, epochSeconds),
    epochSeconds,
    xattrBlock: allocation.xattrBlock ?? 0,
    xattrs: xattrs.inInode,
  })
}

/** Collect the journal's first block and its inode; gives the content of `i_block`. */
export function addJournal(collector: Collector, allocation: Allocation, superblock: Uint8Array): Uint8Array {
  const { geometry, epochSeconds } = collector
  addBytes(collector, allocation.extents, superblock)
  const block = addTree(collector, JOURNAL_INODE, allocation)
  addInode(collector, JOURNAL_INODE, {
    mode: FILE_TYPES.file.mode | 0o600,
    uid: 0,
    gid: 0,
    sizeBytes: geometry.journalBlocks * geometry.blockSizeBytes,
    linkCount: 1,
    allocatedBytes: allocatedBytes(allocation, geometry),
    flags: EXTENTS_FLAG,
    mtimeSeconds: epochSeconds,
    epochSeconds,
    block,
    xattrBlock: 0,
    xattrs: undefined,
  })
  return block
}

function sizeOf({ entry, demand }: TreeNode, geometry: Geometry): number {
  if (entry.type === 'file') return entry.sizeBytes
  if (entry.type === 'directory') return demand.dataBlocks * geometry.blockSizeBytes
  return Buffer.byteLength(entry.linkTarget ?? '')
}

function allocatedBytes({ extents, treeBlocks, xattrBlock }: Allocation, geometry: Geometry): number {
  const contentBlocks = extents.reduce((sum, { blockCount }) => sum + blockCount, 0)
  return (contentBlocks + treeBlocks.length + (xattrBlock === undefined ? 0 : 1)) * geometry.blockSizeBytes
}

function rootOf(
  collector: Collector,
  node: TreeNode,
  allocation: Allocation,
): Pick<Inode, 'block' | 'flags'> {
  const { entry, demand } = node
  switch (entry.type) {
    case 'file':
    case 'directory':
      return { flags: EXTENTS_FLAG, block: addTree(collector, node.inode, allocation) }
    case 'symlink':
      return demand.dataBlocks === 0
        ? { flags: 0, block: encodeShortTarget(Buffer.from(entry.linkTarget ?? '')) }
        : { flags: EXTENTS_FLAG, block: addTree(collector, node.inode, allocation) }
    default:
      return { flags: 0, block: encodeDevice(entry.rdevMajor, entry.rdevMinor) }
  }
}

function addTree(collector: Collector, inode: number, allocation: Allocation): Uint8Array {
  const { blockSizeBytes } = collector.geometry
  const inodeSeed = inodeSeedOf(collector.filesystemSeed, inode)
  const { root, blocks } = encodeExtentTree(allocation, { blockSizeBytes, inodeSeed })
  for (const { block, bytes } of blocks) addBytes(collector, [{ startBlock: block, blockCount: 1 }], bytes)
  return root
}

function addInode(collector: Collector, inode: number, content: Inode): void {
  const { geometry, inodeTables, filesystemSeed } = collector
  const group = Math.floor((inode - 1) / geometry.inodesPerGroup)
  const start = ((inode - 1) % geometry.inodesPerGroup) * INODE_SIZE_BYTES
  const slot = inodeTables[group]?.subarray(start, start + INODE_SIZE_BYTES)
  if (slot === undefined) throw new Error(`inode ${String(inode)}: outside the inode tables`)
  encodeInode(slot, content, inodeSeedOf(filesystemSeed, inode))
}

function addContent(collector: Collector, node: TreeNode, { extents }: Allocation): void {
  const { entry, demand, records } = node
  const { blockSizeBytes } = collector.geometry
  if (entry.type === 'directory') {
    const inodeSeed = inodeSeedOf(collector.filesystemSeed, node.inode)
    const request = { blockCount: demand.dataBlocks, blockSizeBytes, inodeSeed }
    addBytes(collector, extents, encodeDirectory(records, request))
  } else if (entry.type === 'symlink' && demand.dataBlocks > 0) {
    addBytes(collector, extents, Buffer.from(entry.linkTarget ?? ''))
  } else if (typeof entry.source === 'string') {
    addFile(collector, entry, extents)
  } else if (entry.source !== undefined) {
    addBytes(collector, extents, entry.source)
  }
}

function addBytes(collector: Collector, extents: Allocation['extents'], bytes: Uint8Array): void {
  const { blockSizeBytes } = collector.geometry
  let done = 0
  for (const { startBlock, blockCount } of extents) {
    if (done >= bytes.length) return
    const part = bytes.subarray(done, done + blockCount * blockSizeBytes)
    collector.pieces.push({ offsetBytes: startBlock * blockSizeBytes, bytes: part })
    done += part.length
  }
}

function addFile(collector: Collector, entry: TreeEntry, extents: Allocation['extents']): void {
  const { blockSizeBytes } = collector.geometry
  const hostPath = String(entry.source)
  // An empty file has no place, yet the writer must see that it is still empty.
  if (extents.length === 0) {
    collector.pieces.push({ offsetBytes: 0, hostPath, lengthBytes: 0, isLast: true })
  }
  let left = entry.sizeBytes
  for (const { startBlock, blockCount } of extents) {
    const lengthBytes = Math.min(left, blockCount * blockSizeBytes)
    left -= lengthBytes
    collector.pieces.push({
      offsetBytes: startBlock * blockSizeBytes,
      hostPath,
      lengthBytes,
      isLast: left === 0,
    })
  }
}
