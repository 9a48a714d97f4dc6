// SPDX-License-Identifier: Apache-2.0
import { openLz4 } from './lz4.ts'
import type { Lz4Effort } from './lz4.ts'

/** Block of the filesystem, and unit that compressed content is stored in. Unit: bytes. */
export const BLOCK_BYTES = 4096

/** Longest run of content in one block: a page of it is read by unpacking all before it. Unit: bytes. */
const MAX_EXTENT_BYTES = 256 * 1024

/** One run of a file's content, stored in one block. */
export interface Extent {
  /** Place of its first byte in the file. Unit: bytes. */
  readonly start: number
  /** Stored as it is, because it does not become smaller. */
  readonly isPlain: boolean
}

/** A part of a file as it is stored: extent `n` is block `n`. */
export interface Compressed {
  readonly extents: readonly Extent[]
  readonly blocks: Uint8Array
}

/**
 * Compress a part of a file that starts at a block boundary, into one block after the other.
 *
 * Compressed content stands at the end of its block, zeros before it, so that the kernel can unpack it
 * in place. An extent that is shorter than a block is stored as it is.
 *
 * Source: linux, Documentation/filesystems/erofs.rst; fs/erofs/erofs_fs.h, LZ4_0PADDING
 */
export function compressPart(input: Uint8Array, startBytes: number, effort: Lz4Effort): Compressed {
  const lz4 = openLz4(input, effort)
  const extents: Extent[] = []
  const blocks: Uint8Array[] = []
  const room = new Uint8Array(BLOCK_BYTES)
  for (let at = 0; at < input.length;) {
    const block = new Uint8Array(BLOCK_BYTES)
    // What ends in the block it begins in gains nothing, and the index has no word for it.
    const isTail = (at % BLOCK_BYTES) + input.length - at <= BLOCK_BYTES
    const { consumed, produced } = isTail
      ? { consumed: 0, produced: 0 }
      : lz4.fill(at, Math.min(input.length, at + MAX_EXTENT_BYTES), room)
    const isPlain = consumed <= BLOCK_BYTES
    extents.push({ start: startBytes + at, isPlain })
    if (isPlain) {
      const length = Math.min(BLOCK_BYTES, input.length - at)
      block.set(input.subarray(at, at + length))
      at += length
    } else {
      block.set(room.subarray(0, produced), BLOCK_BYTES - produced)
      at += consumed
    }
    blocks.push(block)
  }
  return { extents, blocks: Buffer.concat(blocks) }
}

/** Kinds of index records. Source: linux/fs/erofs/erofs_fs.h, Z_EROFS_LCLUSTER_TYPE */
const PLAIN = 0
const HEAD = 1
const NONHEAD = 2

/** Header of the index, and the bytes after it that nothing reads. Source: the same, Z_EROFS_FULL_INDEX_START */
const INDEX_START_BYTES = 16

const RECORD_BYTES = 8

/** Length of the index of a compressed file. Unit: bytes. */
export function indexBytes(sizeBytes: number): number {
  return INDEX_START_BYTES + Math.ceil(sizeBytes / BLOCK_BYTES) * RECORD_BYTES
}

/**
 * The index of a compressed file: one record per block of its content, which tells what extent begins
 * in it, or how far away the ones before and after begin.
 *
 * Source: linux/fs/erofs/erofs_fs.h, struct z_erofs_lcluster_index
 */
export function encodeIndex(extents: readonly Extent[], sizeBytes: number, firstBlock: number): Uint8Array {
  const index = Buffer.alloc(indexBytes(sizeBytes))
  const clusters = Math.ceil(sizeBytes / BLOCK_BYTES)
  const clusterOf = (place: number): number => Math.floor(place / BLOCK_BYTES)
  const record = (cluster: number): number => INDEX_START_BYTES + cluster * RECORD_BYTES
  extents.forEach(({ start, isPlain }, number) => {
    const head = clusterOf(start)
    const next = clusterOf(extents[number + 1]?.start ?? sizeBytes)
    index.writeUInt16LE(isPlain ? PLAIN : HEAD, record(head))
    index.writeUInt16LE(start % BLOCK_BYTES, record(head) + 2)
    index.writeUInt32LE(firstBlock + number, record(head) + 4)
    for (let cluster = head + 1; cluster < Math.min(next, clusters); cluster++) {
      index.writeUInt16LE(NONHEAD, record(cluster))
      index.writeUInt16LE(cluster - head, record(cluster) + 4)
      index.writeUInt16LE(next - cluster, record(cluster) + 6)
    }
  })
  const last = clusterOf(sizeBytes)
  const isMarked = sizeBytes % BLOCK_BYTES !== 0 && clusterOf(extents.at(-1)?.start ?? 0) < last
  // The end of the last extent, where no other begins: the place of a next one.
  if (isMarked) {
    index.writeUInt16LE(PLAIN, record(last))
    index.writeUInt16LE(sizeBytes % BLOCK_BYTES, record(last) + 2)
  }
  return index
}
