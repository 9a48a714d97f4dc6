// SPDX-License-Identifier: Apache-2.0
import { closeSync, constants, openSync, readSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'

import { compressPart } from './erofs-extents.ts'
import type { CompressAnswer, CompressPart, CompressTask } from './erofs-compress.ts'

/** One more than is asked for shows that a file grew. */
function read({ source, offsetBytes, lengthBytes, isLast }: CompressPart): Uint8Array | undefined {
  if (typeof source !== 'string') return source.subarray(offsetBytes, offsetBytes + lengthBytes)
  // Neither follow a link nor wait for a fifo that took the place of a file.
  const descriptor = openSync(source, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const bytes = Buffer.allocUnsafe(lengthBytes + 1)
    let filled = 0
    while (filled < bytes.length) {
      const count = readSync(descriptor, bytes, filled, bytes.length - filled, offsetBytes + filled)
      if (count === 0) break
      filled += count
    }
    if (filled < lengthBytes || (isLast && filled > lengthBytes)) return undefined
    return bytes.subarray(0, lengthBytes)
  } finally {
    closeSync(descriptor)
  }
}

parentPort?.on('message', ({ number, parts, effort }: CompressTask) => {
  const results = parts.map((part) => {
    try {
      const bytes = read(part)
      return bytes === undefined ? undefined : compressPart(bytes, part.offsetBytes, effort)
    } catch {
      // Gone, or not a file any more: told by the one who knows its name.
      return undefined
    }
  })
  const answer: CompressAnswer = { number, results }
  parentPort?.postMessage(answer)
})
