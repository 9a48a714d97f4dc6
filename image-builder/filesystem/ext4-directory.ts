// SPDX-License-Identifier: Apache-2.0
import { crc32c } from './crc32c.ts'

/** Inode, record length, name length and type before each name. Unit: bytes. Source: ext4/directory.rst */
const RECORD_HEADER_BYTES = 8

/** A false record at the end of each block that holds its checksum. Unit: bytes. Source: ext4/directory.rst */
const TAIL_BYTES = 12

/** `det_reserved_ft`, what tells the tail from a name. Source: ext4/directory.rst */
const TAIL_TYPE = 0xde

/** Longest name. Unit: bytes. Source: ext4/directory.rst, EXT4_NAME_LEN */
export const MAX_NAME_BYTES = 255

/** One name in a directory. */
export interface DirectoryRecord {
  readonly name: string
  readonly inode: number
  /** `file_type` of the inode the name leads to. */
  readonly fileType: number
}

function recordBytes(name: string): number {
  return (RECORD_HEADER_BYTES + Buffer.byteLength(name) + 3) & ~3
}

/** Blocks that a directory with these names fills, in this order; `.` and `..` must be among them. */
export function directoryBlocks(names: Iterable<string>, blockSizeBytes: number): number {
  const usableBytes = blockSizeBytes - TAIL_BYTES
  let blocks = 1
  let filled = 0
  for (const name of names) {
    const length = recordBytes(name)
    if (filled + length > usableBytes) {
      blocks++
      filled = 0
    }
    filled += length
  }
  return blocks
}

/** Size of a directory and the seed of its checksums. */
export interface DirectoryRequest {
  readonly blockCount: number
  readonly blockSizeBytes: number
  readonly inodeSeed: number
}

/**
 * Encode the blocks of a directory.
 *
 * Names are in one list, without the hash tree that dir_index allows: the kernel builds it when a
 * guest adds a name, and a lookup in a list of a few blocks is as fast.
 *
 * Source: ext4/directory.rst, "Linear (Classic) Directories"
 */
export function encodeDirectory(records: readonly DirectoryRecord[], request: DirectoryRequest): Uint8Array {
  const { blockCount, blockSizeBytes, inodeSeed } = request
  const usableBytes = blockSizeBytes - TAIL_BYTES
  const bytes = Buffer.alloc(blockCount * blockSizeBytes)
  let block = 0
  let filled = 0
  let last = 0
  const closeBlock = (): void => {
    // The last record reaches to the tail; in a block without names it is a record without inode.
    bytes.writeUInt16LE(usableBytes - last, block * blockSizeBytes + last + 4)
    block++
    filled = last = 0
  }
  for (const { name, inode, fileType } of records) {
    const length = recordBytes(name)
    if (filled + length > usableBytes) closeBlock()
    const at = block * blockSizeBytes + filled
    bytes.writeUInt32LE(inode, at)
    bytes.writeUInt16LE(length, at + 4)
    bytes[at + 6] = bytes.write(name, at + RECORD_HEADER_BYTES)
    bytes[at + 7] = fileType
    last = filled
    filled += length
  }
  while (block < blockCount) closeBlock()
  for (let start = 0; start < bytes.length; start += blockSizeBytes) {
    sealBlock(bytes.subarray(start, start + blockSizeBytes), inodeSeed)
  }
  return bytes
}

function sealBlock(block: Buffer, inodeSeed: number): void {
  const tail = block.length - TAIL_BYTES
  block.writeUInt16LE(TAIL_BYTES, tail + 4)
  block[tail + 7] = TAIL_TYPE
  block.writeUInt32LE(crc32c(inodeSeed, block.subarray(0, tail)), tail + 8)
}
