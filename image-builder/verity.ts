// SPDX-License-Identifier: Apache-2.0
import { hash } from 'node:crypto'

/** Block of data and of the hash tree. Unit: bytes. */
export const VERITY_BLOCK_BYTES = 4096

/** Length of a sha256. Unit: bytes. */
const DIGEST_BYTES = 32

const DIGESTS_PER_BLOCK = VERITY_BLOCK_BYTES / DIGEST_BYTES

/** Longest salt. Unit: bytes. Source: linux, drivers/md/dm-verity-target.c and cryptsetup */
export const MAX_SALT_BYTES = 256

/** Everything that anyone needs to check the data or to compute the root hash again. */
export interface VerityFacts {
  readonly rootHash: string
  readonly salt: string
  readonly dataBlocks: number
}

/** Numbers of blocks of each level, the one over the data first. */
export function levelsOf(dataBlocks: number): number[] {
  const levels: number[] = []
  for (let count = dataBlocks; count > 1 || levels.length === 0;) {
    count = Math.ceil(count / DIGESTS_PER_BLOCK)
    levels.push(count)
  }
  return levels
}

/** Length of the hash tree over so much data. Unit: bytes. */
export function treeBytes(dataBytes: number): number {
  const blocks = levelsOf(dataBytes / VERITY_BLOCK_BYTES).reduce((sum, count) => sum + count, 0)
  return blocks * VERITY_BLOCK_BYTES
}

/** Digests blocks with a salt before each; zero blocks cost nothing. */
export function blockHasher(salt: Uint8Array): (blocks: Uint8Array, digests: Uint8Array) => void {
  const salted = Buffer.alloc(salt.length + VERITY_BLOCK_BYTES)
  salted.set(salt)
  const zeros = Buffer.alloc(VERITY_BLOCK_BYTES)
  const ofZeros = hash('sha256', salted, 'buffer')
  return (blocks, digests) => {
    for (let at = 0; at < blocks.length; at += VERITY_BLOCK_BYTES) {
      const block = blocks.subarray(at, at + VERITY_BLOCK_BYTES)
      const target = (at / VERITY_BLOCK_BYTES) * DIGEST_BYTES
      if (block[0] === 0 && zeros.equals(block)) {
        digests.set(ofZeros, target)
        continue
      }
      salted.set(block, salt.length)
      digests.set(hash('sha256', salted, 'buffer'), target)
    }
  }
}

/** Length of the digests of so much data. Unit: bytes. */
export function digestsBytes(dataBytes: number): number {
  return (dataBytes / VERITY_BLOCK_BYTES) * DIGEST_BYTES
}

/**
 * The tree over the digests of all data blocks, as it is on the hash device without a superblock: the
 * topmost block first, the digests of the data last.
 *
 * Source: linux, Documentation/admin-guide/device-mapper/verity.rst, hash type 1
 */
export function buildTree(
  digests: Uint8Array,
  salt: Uint8Array,
): { readonly tree: Uint8Array; readonly rootHash: string } {
  const hashBlocks = blockHasher(salt)
  const levels: Uint8Array[] = []
  let below = digests
  for (const count of levelsOf(digests.length / DIGEST_BYTES)) {
    const level = new Uint8Array(count * VERITY_BLOCK_BYTES)
    level.set(below)
    levels.unshift(level)
    below = new Uint8Array(count * DIGEST_BYTES)
    hashBlocks(level, below)
  }
  return { tree: Buffer.concat(levels), rootHash: Buffer.from(below).toString('hex') }
}

/** The line of `root_hash_<variant>.txt`. Source: Kata Containers' image builder; its runtime reads it. */
export function rootHashLine({ rootHash, salt, dataBlocks }: VerityFacts): string {
  const size = String(VERITY_BLOCK_BYTES)
  return `root_hash=${rootHash},salt=${salt},data_blocks=${String(dataBlocks)},data_block_size=${size},hash_block_size=${size}\n`
}
