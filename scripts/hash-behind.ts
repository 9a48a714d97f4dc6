// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'

import { BUNDLE_ROOT } from './paths.ts'
import { FROM_FILE, FROM_ZEROS, giveSpan, newProgress, waitForHashed } from './hash-progress.ts'
import type { HashJob } from './hash-progress.ts'

/** Where what is to be written is collected. */
export interface WriteBuffers {
  /** A buffer that nobody reads any more. */
  readonly take: () => Buffer
  /**
   * The first bytes of the buffer taken last are in the file at that place; between there and what was
   * told before are zeros.
   */
  readonly written: (lengthBytes: number, positionBytes: number) => void
}

/** Digest of a file that is still being written, from its start to its end. */
export interface HashBehind extends WriteBuffers {
  /** Everything before this place is in the file as it will stay. Unit: bytes. */
  readonly reach: (bytes: number) => void
  /** Up to this place the file is a hole. Unit: bytes. */
  readonly hole: (endBytes: number) => void
  /** sha256 of the whole file of this size, in hex. */
  readonly digest: (sizeBytes: number) => Promise<string>
  /** Stop, when the file will not be finished. */
  readonly stop: () => Promise<void>
}

/** Large enough that the number of writes does not matter, small enough for the processor's cache. */
export const BUFFER_BYTES = 1024 * 1024

/** Buffers that may be on their way to the file and the hash. */
const BUFFERS = 8

/** One byte more than is written at once, to see whether a file goes on after its planned end. */
const ALLOCATED_BYTES = BUFFER_BYTES + 1

/** One buffer, for a file that nobody hashes. */
export function plainBuffers(): WriteBuffers {
  const buffer = Buffer.allocUnsafe(ALLOCATED_BYTES)
  return { take: () => buffer, written: () => undefined }
}

/**
 * Hash a file on a second core behind the one that writes it: what is written is shared memory, which
 * the second core reads before it is needed for what comes next.
 *
 * The file need not be there yet: its thread takes a while to start.
 */
export function hashBehind(file: string): HashBehind {
  const progress = newProgress()
  const shared = Array.from({ length: BUFFERS }, () => new SharedArrayBuffer(ALLOCATED_BYTES))
  const job: HashJob = { file, progress: progress.buffer, buffers: shared }
  const worker = new Worker(join(BUNDLE_ROOT, 'scripts/hash-worker.js'), { workerData: job })
  const answer = new Promise<string>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  // Who stops does not ask for the digest any more.
  answer.catch(() => undefined)
  const buffers = shared.map((memory) => ({ bytes: Buffer.from(memory), freeAfter: 0n }))
  let next = -1
  let at = 0
  const hole = (endBytes: number): void => {
    if (endBytes > at) give(endBytes, FROM_ZEROS)
  }
  const give = (endBytes: number, from: number): bigint => {
    at = Math.max(at, endBytes)
    return giveSpan(progress, { endBytes, from })
  }
  return {
    take: () => {
      next = (next + 1) % BUFFERS
      const buffer = buffers[next]
      if (buffer === undefined) throw new RangeError('no buffer')
      waitForHashed(progress, buffer.freeAfter)
      return buffer.bytes
    },
    written: (lengthBytes, positionBytes) => {
      const buffer = buffers[next]
      if (buffer === undefined) throw new RangeError('no buffer was taken')
      if (lengthBytes === 0) return
      hole(positionBytes)
      buffer.freeAfter = give(positionBytes + lengthBytes, next)
    },
    reach: (bytes) => {
      if (bytes > at) give(bytes, FROM_FILE)
    },
    hole,
    digest: (sizeBytes) => {
      if (sizeBytes > at) give(sizeBytes, FROM_FILE)
      // Nothing comes after it.
      give(0, FROM_ZEROS)
      return answer
    },
    stop: async () => {
      await worker.terminate()
    },
  }
}
