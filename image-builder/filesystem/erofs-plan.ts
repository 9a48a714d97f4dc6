// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'

import { compareBytes } from '../../scripts/tree.ts'
import type { TreeEntry } from '../../scripts/tree.ts'
import { CHECKSUM_START } from './ext4-superblock.ts'
import { crc32c } from './crc32c.ts'
import { changedError } from './erofs-compress.ts'
import type { CompressedFiles } from './erofs-compress.ts'
import { BLOCK_BYTES, encodeIndex, indexBytes } from './erofs-extents.ts'
import {
  INODE_BYTES,
  SLOT_BYTES,
  deviceNumber,
  encodeDirectory,
  encodeInode,
  encodeXattrs,
  shapeDirectory,
} from './erofs-inode.ts'
import type { DataLayout, DirectoryShape } from './erofs-inode.ts'
import type { Piece } from './ext4-content.ts'
import { nodesOf } from './nodes.ts'
import type { Node } from './nodes.ts'

/** Place and length of the superblock. Unit: bytes. Source: linux/fs/erofs/erofs_fs.h */
const SUPERBLOCK = { offsetBytes: 1024, sizeBytes: 128 } as const

const MAGIC = 0xe0f5e1e2

/** Features that any kernel may ignore: a checksum of the superblock, times that are those of the content. */
const COMPATIBLE = { checksum: 0x1, mtime: 0x2 } as const

/** Compressed content stands at the end of its block. Needed from Linux 5.4 on. */
const INCOMPATIBLE_PADDING = 0x1

export interface ErofsRequest {
  readonly uuid: string
  readonly epochSeconds: number
  /** What compression made of the files, and the file with their blocks; without it nothing is compressed. */
  readonly compressed?: { readonly files: CompressedFiles; readonly blocksFile: string }
}

/** A filesystem to the last byte, except the content of host files. */
export interface ErofsPlan {
  readonly sizeBytes: number
  readonly inodeCount: number
  /** In order of place, none over another. What they leave out is zero. */
  readonly pieces: readonly Piece[]
}

interface Placed {
  readonly node: Node
  readonly xattrs: Buffer
  readonly layout: DataLayout
  readonly sizeBytes: number
  readonly shape: DirectoryShape | undefined
  /** Place of the inode. Unit: bytes. */
  readonly at: number
}

/**
 * Plan an EROFS with these entries: inodes first, in byte order of their paths, then content.
 *
 * Files begin at a block of their own, so that an NVDIMM guest can map them; only where files are
 * compressed, which excludes that, are small ones kept in the block of their inode.
 *
 * Source: linux, Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h
 *
 * @throws BuildError E_INPUT when EROFS cannot store an entry, or a file is not as it was listed
 */
export function planErofs(entries: readonly TreeEntry[], request: ErofsRequest): ErofsPlan {
  const nodes = nodesOf(entries)
  const { placed, endBytes } = placeInodes(nodes, request)
  const slots = new Map(placed.map(({ node, at }) => [node, at / SLOT_BYTES]))
  const slotOf = (node: Node): number => slots.get(node) ?? 0
  const compressedStart = Math.ceil(endBytes / BLOCK_BYTES)
  let nextBlock = compressedStart + (request.compressed?.files.blockCount ?? 0)
  const metadata = Buffer.alloc(compressedStart * BLOCK_BYTES)
  const pieces: Piece[] = [{ offsetBytes: 0, bytes: metadata }]
  if (request.compressed !== undefined && nextBlock > compressedStart) {
    const lengthBytes = request.compressed.files.blockCount * BLOCK_BYTES
    const { blocksFile: hostPath } = request.compressed
    pieces.push({ offsetBytes: compressedStart * BLOCK_BYTES, hostPath, lengthBytes, isLast: true })
  }
  for (const inode of placed) {
    const { node, layout, sizeBytes, xattrs, at } = inode
    const { entry } = node
    const after = at + INODE_BYTES + xattrs.length
    const compressed = request.compressed?.files.byPath.get(entry.path)
    let place = 0
    if (layout === 'compressed' && compressed !== undefined) {
      place = compressed.extents.length
      const firstBlock = compressedStart + compressed.firstBlock
      encodeIndex(compressed.extents, sizeBytes, firstBlock).forEach((byte, index) => {
        metadata[roundUp(after, 8) + index] = byte
      })
    } else if (entry.type === 'character-device' || entry.type === 'block-device') {
      place = deviceNumber(entry)
    } else if (sizeBytes > 0) {
      const inBlocks = layout === 'inline' ? sizeBytes - (sizeBytes % BLOCK_BYTES) : sizeBytes
      const bytes = entry.type === 'file' ? fileBytes(entry, layout) : ownBytes(inode, slotOf)
      if (inBlocks > 0) {
        place = nextBlock
        const offsetBytes = nextBlock * BLOCK_BYTES
        pieces.push(
          bytes === undefined
            ? { offsetBytes, hostPath: String(entry.source), lengthBytes: sizeBytes, isLast: true }
            : { offsetBytes, bytes: bytes.subarray(0, inBlocks) },
        )
        nextBlock += Math.ceil(inBlocks / BLOCK_BYTES)
      }
      if (bytes !== undefined) metadata.set(bytes.subarray(inBlocks), after)
    }
    const mtimeSeconds = Math.min(entry.mtimeSeconds, request.epochSeconds)
    const { number, linkCount } = node
    const fixed = {
      entry,
      layout,
      sizeBytes,
      place,
      number,
      linkCount,
      mtimeSeconds,
      xattrBytes: xattrs.length,
    }
    metadata.set(encodeInode(fixed), at)
    metadata.set(xattrs, at + INODE_BYTES)
  }
  const root = placed[0]
  addSuperblock(metadata, {
    ...request,
    rootSlot: (root?.at ?? 0) / SLOT_BYTES,
    inodeCount: nodes.length,
    blockCount: nextBlock,
  })
  return { sizeBytes: nextBlock * BLOCK_BYTES, inodeCount: nodes.length, pieces }
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple
}

/** Choose where each inode stands: it, and what is inline, never over the end of a block. */
function placeInodes(
  nodes: readonly Node[],
  { compressed }: ErofsRequest,
): { readonly placed: Placed[]; readonly endBytes: number } {
  let next = SUPERBLOCK.offsetBytes + SUPERBLOCK.sizeBytes
  const placed = nodes.map((node) => {
    const { entry } = node
    const xattrs = encodeXattrs(entry)
    const shape =
      entry.type === 'directory' ? shapeDirectory(namesOf(node).map(({ name }) => name)) : undefined
    const sizeBytes =
      shape?.sizeBytes ??
      (entry.type === 'symlink' ? Buffer.byteLength(entry.linkTarget ?? '') : entry.sizeBytes)
    const fixed = INODE_BYTES + xattrs.length
    const isCompressed = compressed?.files.byPath.has(entry.path) === true
    const canBeInline = entry.type === 'file' ? compressed !== undefined && sizeBytes < BLOCK_BYTES : true
    const tail = sizeBytes % BLOCK_BYTES
    const isInline = !isCompressed && canBeInline && tail > 0 && fixed + tail <= BLOCK_BYTES
    const together = isInline ? fixed + tail : INODE_BYTES
    let at = roundUp(next, SLOT_BYTES)
    if ((at % BLOCK_BYTES) + together > BLOCK_BYTES) at = roundUp(at, BLOCK_BYTES)
    next = isCompressed ? roundUp(at + fixed, 8) + indexBytes(sizeBytes) : at + fixed + (isInline ? tail : 0)
    const layout: DataLayout = isCompressed ? 'compressed' : isInline ? 'inline' : 'plain'
    return { node, xattrs, layout, sizeBytes, shape, at }
  })
  return { placed, endBytes: next }
}

/** Names of a directory in the order that the kernel searches: `.` and `..` are among them. */
function namesOf(node: Node): { readonly name: string; readonly node: Node }[] {
  const dots = [
    { name: '.', node },
    { name: '..', node: node.parent ?? node },
  ]
  return [...dots, ...node.children].sort((a, b) => compareBytes(a.name, b.name))
}

/** Content that is not read from a host file. */
function ownBytes({ node, shape }: Placed, slotOf: (node: Node) => number): Buffer {
  if (shape === undefined) return Buffer.from(node.entry.linkTarget ?? '')
  const names = namesOf(node).map((child) => ({
    name: child.name,
    slot: slotOf(child.node),
    type: child.node.entry.type,
  }))
  return encodeDirectory(names, shape)
}

/** Content of a file that is in memory or is kept beside its inode; undefined for one that is copied later. */
function fileBytes(entry: TreeEntry, layout: DataLayout): Uint8Array | undefined {
  if (typeof entry.source !== 'string') return entry.source
  if (layout !== 'inline') return undefined
  const bytes = readFileSync(entry.source)
  if (bytes.length !== entry.sizeBytes) throw changedError(entry)
  return bytes
}

interface SuperblockRequest extends ErofsRequest {
  readonly rootSlot: number
  readonly inodeCount: number
  readonly blockCount: number
}

/** Source: linux/fs/erofs/erofs_fs.h, struct erofs_super_block */
function addSuperblock(metadata: Buffer, request: SuperblockRequest): void {
  const bytes = metadata.subarray(SUPERBLOCK.offsetBytes, BLOCK_BYTES)
  bytes.writeUInt32LE(MAGIC, 0)
  bytes.writeUInt32LE(COMPATIBLE.checksum | COMPATIBLE.mtime, 8)
  bytes.writeUInt8(Math.log2(BLOCK_BYTES), 12)
  bytes.writeUInt16LE(request.rootSlot, 14)
  bytes.writeBigUInt64LE(BigInt(request.inodeCount), 16)
  bytes.writeBigUInt64LE(BigInt(request.epochSeconds), 24)
  bytes.writeUInt32LE(request.blockCount, 36)
  Buffer.from(request.uuid.replaceAll('-', ''), 'hex').copy(bytes, 48)
  bytes.writeUInt32LE(request.compressed === undefined ? 0 : INCOMPATIBLE_PADDING, 80)
  bytes.writeUInt32LE(crc32c(CHECKSUM_START, bytes), 4)
}
