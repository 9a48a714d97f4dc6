// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import { closeSync, openSync, readSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'

import { CHANGES, IS_COMPLETE, REACHED } from './hash-progress.ts'
import type { HashJob } from './hash-progress.ts'

const CHUNK_BYTES = 4 * 1024 * 1024

const { file, progress } = workerData as HashJob
const view = new BigInt64Array(progress)
const hash = createHash('sha256')
const buffer = Buffer.allocUnsafe(CHUNK_BYTES)

let descriptor: number | undefined
for (let at = 0; ;) {
  // Read first: a change after this ends the wait below at once.
  const changes = Atomics.load(view, CHANGES)
  const isComplete = Atomics.load(view, IS_COMPLETE) === 1n
  const end = Number(Atomics.load(view, REACHED))
  if (end <= at) {
    if (isComplete) break
    Atomics.wait(view, CHANGES, changes)
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
