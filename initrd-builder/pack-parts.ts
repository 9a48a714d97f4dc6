// SPDX-License-Identifier: Apache-2.0
import { closeSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs'
import { availableParallelism } from 'node:os'

import { startCollector } from '../scripts/pipes.ts'
import { packPart } from './pack.ts'
import type { KeyedPart, PlacedPart } from './parts.ts'
import {
  FRAME_END,
  FRAME_START_BYTES,
  PART_START_BYTES,
  beginPart,
  frameStart,
  takeBlocks,
} from './zstd-frame.ts'
import type { FrameBlocks } from './zstd-frame.ts'

/** Compressors at once. */
const AT_ONCE = availableParallelism()

export interface PartsRequest {
  readonly parts: readonly KeyedPart[]
  /** A compressor, which writes a frame without a checksum. */
  readonly argv: readonly [string, ...string[]]
  /** The initrd that is there, and where its parts are. */
  readonly earlier: { readonly file: string; readonly parts: ReadonlyMap<string, PlacedPart> }
}

/**
 * Pack an archive into a new file as one zstd frame: what the earlier initrd has is taken from there, the
 * other parts are compressed, several at once. The bytes are the same either way.
 *
 * Fails as packNewc does, or with E_COMMAND when the compressor does.
 *
 * @returns where the parts are
 */
export async function packParts(file: string, { parts, argv, earlier }: PartsRequest): Promise<PlacedPart[]> {
  const output = openSync(file, 'wx', 0o644)
  const source = earlier.parts.size === 0 ? undefined : openSync(earlier.file, 'r')
  const underWay = new Map<KeyedPart, Promise<FrameBlocks>>()
  try {
    const placed: PlacedPart[] = []
    const waiting = parts.filter(({ key }) => !earlier.parts.has(key)).values()
    const startMore = (): void => {
      while (underWay.size < AT_ONCE) {
        const { value: part, done } = waiting.next()
        if (done === true) return
        const blocks = compressPart(part, argv)
        // Whoever comes to it tells of its failure.
        blocks.catch(() => undefined)
        underWay.set(part, blocks)
      }
    }
    const append = (bytes: Buffer): void => {
      writeFileSync(output, bytes)
    }
    append(frameStart(0))
    let offsetBytes = FRAME_START_BYTES
    startMore()
    for (const part of parts) {
      const place = earlier.parts.get(part.key)
      const { pieces, window } =
        place === undefined || source === undefined
          ? await (underWay.get(part) ?? compressPart(part, argv))
          : { pieces: [readPart(source, place)], window: place.window }
      underWay.delete(part)
      startMore()
      pieces.forEach(append)
      const sizeBytes = pieces.reduce((sum, { length }) => sum + length, 0)
      placed.push({ key: part.key, offsetBytes, sizeBytes, window })
      offsetBytes += sizeBytes
    }
    append(FRAME_END)
    // Known now: the largest of all.
    const start = frameStart(Math.max(...placed.map(({ window }) => window)))
    writeSync(output, start, 0, start.length, 0)
    return placed
  } finally {
    await Promise.allSettled(underWay.values())
    if (source !== undefined) closeSync(source)
    closeSync(output)
  }
}

async function compressPart(part: KeyedPart, argv: readonly [string, ...string[]]): Promise<FrameBlocks> {
  const compressor = startCollector(argv)
  // The compressor's own message says more than the broken pipe that follows from its end.
  const [ended, packed] = await Promise.allSettled([
    compressor.done,
    packPart(part, compressor.stdin, PART_START_BYTES),
  ])
  if (ended.status === 'rejected') throw ended.reason
  if (packed.status === 'rejected') throw packed.reason
  const { window, pieces } = takeBlocks(ended.value)
  return { window, pieces: [beginPart(packed.value), ...pieces] }
}

function readPart(descriptor: number, { offsetBytes, sizeBytes }: PlacedPart): Buffer {
  const blocks = Buffer.allocUnsafe(sizeBytes)
  for (let done = 0; done < sizeBytes;) {
    const count = readSync(descriptor, blocks, done, sizeBytes - done, offsetBytes + done)
    if (count === 0) throw new Error('the initrd that is there is shorter than it was')
    done += count
  }
  return blocks
}
