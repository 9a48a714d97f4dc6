// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import { closeSync, openSync, readSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'

import { FAILED, FROM_FILE, FROM_ZEROS, HASHED, takeSpan } from './hash-progress.ts'
import type { HashJob } from './hash-progress.ts'

const CHUNK_BYTES = 1024 * 1024

const job = workerData as HashJob
const progress = new BigInt64Array(job.progress)
const buffers = job.buffers.map((shared) => Buffer.from(shared))
const chunk = Buffer.alloc(CHUNK_BYTES)

try {
  parentPort?.postMessage(hashSpans())
} catch (error) {
  Atomics.store(progress, HASHED, FAILED)
  Atomics.notify(progress, HASHED)
  throw error
}

/** Digest of all spans, up to the first that is empty. */
function hashSpans(): string {
  const hash = createHash('sha256')
  const zeros = Buffer.alloc(CHUNK_BYTES)
  let descriptor: number | undefined
  let at = 0
  for (let number = 0n; ; number += 1n) {
    const { endBytes, from } = takeSpan(progress, number)
    if (endBytes <= at) break
    if (from >= 0) {
      hash.update(buffers[from]?.subarray(0, endBytes - at) ?? '')
    } else if (from === FROM_ZEROS) {
      for (let left = endBytes - at; left > 0; left -= CHUNK_BYTES)
        hash.update(left < CHUNK_BYTES ? zeros.subarray(0, left) : zeros)
    } else if (from === FROM_FILE) {
      descriptor ??= openSync(job.file, 'r')
      for (let place = at; place < endBytes;) place += hashPart(hash, descriptor, place, endBytes - place)
    }
    at = endBytes
    Atomics.store(progress, HASHED, number + 1n)
    Atomics.notify(progress, HASHED)
  }
  if (descriptor !== undefined) closeSync(descriptor)
  return hash.digest('hex')
}

/** Hash what is in the file there, as much as fits. Returns how much. Unit: bytes. */
function hashPart(hash: ReturnType<typeof createHash>, descriptor: number, at: number, left: number): number {
  const count = readSync(descriptor, chunk, 0, Math.min(chunk.length, left), at)
  if (count === 0) throw new Error(`${job.file} is shorter than it was to be`)
  hash.update(chunk.subarray(0, count))
  return count
}
