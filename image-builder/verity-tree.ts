// SPDX-License-Identifier: Apache-2.0
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'

import { BUNDLE_ROOT } from '../scripts/paths.ts'
import { writeAll } from '../scripts/write-all.ts'
import type { ImageLayout } from './layout.ts'
import { VERITY_BLOCK_BYTES, buildTree, digestsBytes } from './verity.ts'
import type { VerityFacts } from './verity.ts'

/** A part of the data, for a thread. */
export interface VerityJob {
  readonly file: string
  readonly salt: Uint8Array
  readonly offsetBytes: number
  readonly lengthBytes: number
  /** Digests of all data. */
  readonly digests: SharedArrayBuffer
  /** Where those of this part begin. Unit: bytes. */
  readonly digestsOffset: number
}

/**
 * Write the hash tree of an image's first partition, which is complete, into its second.
 *
 * All processors read at once, while the data is still in memory.
 */
export async function writeTree(
  file: string,
  fileDescriptor: number,
  layout: ImageLayout,
  salt: string,
): Promise<VerityFacts> {
  const { filesystemOffsetBytes, filesystemBytes, hashOffsetBytes } = layout
  const saltBytes = Buffer.from(salt, 'hex')
  const digests = new SharedArrayBuffer(digestsBytes(filesystemBytes))
  const dataBlocks = filesystemBytes / VERITY_BLOCK_BYTES
  const threads = availableParallelism()
  const partBytes = Math.ceil(dataBlocks / threads) * VERITY_BLOCK_BYTES
  const parts = Array.from({ length: threads }, (_, number) => number * partBytes)
  await Promise.all(
    parts
      .filter((start) => start < filesystemBytes)
      .map((start) =>
        runThread({
          file,
          salt: saltBytes,
          offsetBytes: filesystemOffsetBytes + start,
          lengthBytes: Math.min(partBytes, filesystemBytes - start),
          digests,
          digestsOffset: digestsBytes(start),
        }),
      ),
  )
  const { tree, rootHash } = buildTree(new Uint8Array(digests), saltBytes)
  writeAll(fileDescriptor, tree, hashOffsetBytes)
  return { rootHash, salt, dataBlocks }
}

function runThread(workerData: VerityJob): Promise<void> {
  const worker = new Worker(join(BUNDLE_ROOT, 'image-builder/verity-worker.js'), { workerData })
  return new Promise((resolve, reject) => {
    worker.once('error', reject)
    worker.once('exit', (status) => {
      if (status === 0) resolve()
      else reject(new Error(`a thread of the hash tree ended with status ${String(status)}`))
    })
  })
}
