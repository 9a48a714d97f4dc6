// SPDX-License-Identifier: Apache-2.0
import { Worker } from 'node:worker_threads'

import type { HashJob } from './hash-worker.ts'

/** Digest of a file that is still being written, from its start to its end. */
export interface HashBehind {
  /** Everything before this place is as it will stay. Unit: bytes. */
  readonly reach: (bytes: number) => void
  /** sha256 of the whole file, in hex; all of it must have been reached. */
  readonly digest: () => Promise<string>
  /** Stop, when the file will not be finished. */
  readonly stop: () => Promise<void>
}

/**
 * Hash a file on a second core behind the one that writes it, while its bytes are still in memory.
 *
 * @param sizeBytes size that the file will have
 */
export function hashBehind(file: string, sizeBytes: number): HashBehind {
  const reached = new SharedArrayBuffer(BigInt64Array.BYTES_PER_ELEMENT)
  const view = new BigInt64Array(reached)
  const job: HashJob = { file, sizeBytes, reached }
  const worker = new Worker(new URL('./hash-worker.js', import.meta.url), { workerData: job })
  const answer = new Promise<string>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  // Who stops does not ask for the digest any more.
  answer.catch(() => undefined)
  return {
    reach: (bytes) => {
      Atomics.store(view, 0, BigInt(bytes))
      Atomics.notify(view, 0)
    },
    digest: () => answer,
    stop: async () => {
      await worker.terminate()
    },
  }
}
