// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import { closeSync, openSync, readSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'

/** What the thread of hash-behind is told. */
export interface HashJob {
  readonly file: string
  readonly sizeBytes: number
  /** One BigInt64: how far the file is written. */
  readonly reached: SharedArrayBuffer
}

const CHUNK_BYTES = 4 * 1024 * 1024

const { file, sizeBytes, reached } = workerData as HashJob
const view = new BigInt64Array(reached)
const hash = createHash('sha256')
const buffer = Buffer.allocUnsafe(CHUNK_BYTES)

let descriptor: number | undefined
for (let at = 0; at < sizeBytes;) {
  const end = Number(Atomics.load(view, 0))
  if (end <= at) {
    Atomics.wait(view, 0, BigInt(end))
    continue
  }
  descriptor ??= openSync(file, 'r')
  const count = readSync(descriptor, buffer, 0, Math.min(buffer.length, end - at), at)
  if (count === 0) throw new Error(`${file} is shorter than it was to be`)
  hash.update(buffer.subarray(0, count))
  at += count
}
if (descriptor !== undefined) closeSync(descriptor)
parentPort?.postMessage(hash.digest('hex'))
