// SPDX-License-Identifier: Apache-2.0
import { closeSync, openSync, readSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'

import { VERITY_BLOCK_BYTES, blockHasher, digestsBytes } from './verity.ts'
import type { VerityJob } from './verity-tree.ts'

const CHUNK_BYTES = 1024 * 1024

const { file, salt, offsetBytes, lengthBytes, digests, digestsOffset } = workerData as VerityJob
const hashBlocks = blockHasher(salt)
const buffer = Buffer.allocUnsafe(CHUNK_BYTES)
const target = new Uint8Array(digests)
const descriptor = openSync(file, 'r')
for (let at = 0; at < lengthBytes;) {
  const count = readSync(descriptor, buffer, 0, Math.min(CHUNK_BYTES, lengthBytes - at), offsetBytes + at)
  const whole = count - (count % VERITY_BLOCK_BYTES)
  if (whole === 0) throw new Error(`${file} is shorter than it was to be`)
  hashBlocks(buffer.subarray(0, whole), target.subarray(digestsOffset + digestsBytes(at)))
  at += whole
}
closeSync(descriptor)
parentPort?.postMessage('done')
