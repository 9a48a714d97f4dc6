// SPDX-License-Identifier: Apache-2.0
import { Worker } from 'node:worker_threads'

import { CHANGES, IS_COMPLETE, REACHED } from './hash-progress.ts'
import type { HashJob } from './hash-progress.ts'

/** Digest of a file that is still being written, from its start to its end. */
export interface HashBehind {
  /** Everything before this place is as it will stay. Unit: bytes. */
  readonly reach: (bytes: number) => void
  /** sha256 of the whole file of this size, in hex. */
  readonly digest: (sizeBytes: number) => Promise<string>
  /** Stop, when the file will not be finished. */
  readonly stop: () => Promise<void>
}

/**
 * Hash a file on a second core behind the one that writes it, while its bytes are still in memory.
 *
 * The file need not be there yet: its thread takes a while to start.
 */
export function hashBehind(file: string): HashBehind {
  const progress = new SharedArrayBuffer(3 * BigInt64Array.BYTES_PER_ELEMENT)
  const view = new BigInt64Array(progress)
  const job: HashJob = { file, progress }
  const worker = new Worker(new URL('./hash-worker.js', import.meta.url), { workerData: job })
  const answer = new Promise<string>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  // Who stops does not ask for the digest any more.
  answer.catch(() => undefined)
  const tell = (): void => {
    Atomics.add(view, CHANGES, 1n)
    Atomics.notify(view, CHANGES)
  }
  return {
    reach: (bytes) => {
      Atomics.store(view, REACHED, BigInt(bytes))
      tell()
    },
    digest: (sizeBytes) => {
      Atomics.store(view, REACHED, BigInt(sizeBytes))
      Atomics.store(view, IS_COMPLETE, 1n)
      tell()
      return answer
    },
    stop: async () => {
      await worker.terminate()
    },
  }
}
