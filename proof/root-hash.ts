// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import { closeSync, openSync, readSync } from 'node:fs'

/** Block of data and of the hash tree. Source: cryptsetup, veritysetup(8), its default */
const BLOCK_BYTES = 4096
const DIGEST_BYTES = 32

/**
 * The root hash of dm-verity over a part of a file, computed from the data alone.
 *
 * Each block's digest is sha256 of salt and block; digests fill blocks, padded with zeros, that are
 * hashed in turn until one is left. Source: linux, Documentation/admin-guide/device-mapper/verity.rst, hash type 1
 *
 * @param salt in hex; `''` or `-` for none
 */
export function computeRootHash(
  file: string,
  data: { readonly offsetBytes: number; readonly sizeBytes: number },
  salt: string,
): string {
  const prefix = Buffer.from(salt === '-' ? '' : salt, 'hex')
  const digest = (block: Buffer): Buffer => createHash('sha256').update(prefix).update(block).digest()
  const block = Buffer.alloc(BLOCK_BYTES)
  let level: Buffer[] = []
  const descriptor = openSync(file, 'r')
  try {
    for (let done = 0; done < data.sizeBytes; done += BLOCK_BYTES) {
      block.fill(0)
      readSync(descriptor, block, 0, BLOCK_BYTES, data.offsetBytes + done)
      level.push(digest(block))
    }
  } finally {
    closeSync(descriptor)
  }
  if (level.length === 1) return (level[0] ?? block).toString('hex')
  const perBlock = BLOCK_BYTES / DIGEST_BYTES
  do {
    const next: Buffer[] = []
    for (let at = 0; at < level.length; at += perBlock) {
      const full = Buffer.alloc(BLOCK_BYTES)
      Buffer.concat(level.slice(at, at + perBlock)).copy(full)
      next.push(digest(full))
    }
    level = next
  } while (level.length > 1)
  return (level[0] ?? block).toString('hex')
}
