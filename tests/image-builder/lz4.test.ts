// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

import fc from 'fast-check'
import t from 'tap'

import {
  BLOCK_BYTES,
  compressPart,
  encodeIndex,
  indexBytes,
} from '../../image-builder/filesystem/erofs-extents.ts'
import { openLz4 } from '../../image-builder/filesystem/lz4.ts'
import type { Lz4Effort } from '../../image-builder/filesystem/lz4.ts'

/** A frame with one block, which the lz4 program unpacks. Source: lz4, doc/lz4_Frame_format.md */
function frameOf(block: Uint8Array): Buffer {
  // Version 1, independent blocks, 4 MiB at most; its header checksum was taken from the program's own.
  const head = Buffer.from('04224d186070' + '73', 'hex')
  const size = Buffer.alloc(4)
  size.writeUInt32LE(block.length)
  return Buffer.concat([head, size, block, Buffer.alloc(4)])
}

/** Unpack a block as the format says, with the checks that the kernel makes. */
function unpack(block: Uint8Array): Buffer {
  const out: number[] = []
  let at = 0
  const lengthFrom = (start: number): number => {
    let length = start
    if (start < 15) return length
    for (let byte = 255; byte === 255; length += byte) byte = block[at++] ?? 0
    return length
  }
  let matchStart = -Infinity
  let literals = 0
  while (at < block.length) {
    const token = block[at++] ?? 0
    literals = lengthFrom(token >> 4)
    for (const byte of block.subarray(at, at + literals)) out.push(byte)
    at += literals
    if (at >= block.length) break
    const distance = (block[at] ?? 0) | ((block[at + 1] ?? 0) << 8)
    at += 2
    const length = lengthFrom(token & 15) + 4
    if (distance === 0 || distance > out.length) throw new Error('a match before the start')
    matchStart = out.length
    for (let index = 0; index < length; index++) out.push(out[out.length - distance] ?? 0)
  }
  if (matchStart > out.length - 12 || (matchStart > 0 && literals < 5))
    throw new Error('no literals at the end')
  return Buffer.from(out)
}

const inputs = fc.oneof(
  fc.uint8Array({ maxLength: 20_000, size: 'max' }),
  fc
    .array(fc.constantFrom('a', 'bc', 'the same words ', '\0\0\0\0\0\0\0\0'), {
      maxLength: 8000,
      size: 'max',
    })
    .map((parts) => Buffer.from(parts.join(''))),
)

for (const effort of ['fast', 'hc'] as const satisfies readonly Lz4Effort[]) {
  t.test(`${effort}: whatever is packed comes back, block by block`, (t) => {
    fc.assert(
      fc.property(inputs, fc.integer({ min: 64, max: 4096 }), (input, room) => {
        const lz4 = openLz4(input, effort)
        const output = new Uint8Array(room)
        for (let at = 0; at < input.length;) {
          const { consumed, produced } = lz4.fill(at, input.length, output)
          const back = unpack(output.subarray(0, produced))
          if (consumed === 0 || produced > room || !back.equals(input.subarray(at, at + consumed)))
            return false
          at += consumed
        }
        return true
      }),
      { numRuns: 150 },
    )
    t.end()
  })
}

t.test('the lz4 program reads a block', (t) => {
  const input = Buffer.from('to be, or not to be: that is the question; '.repeat(400))
  const output = new Uint8Array(4096)
  const { consumed, produced } = openLz4(input, 'hc').fill(0, input.length, output)
  t.equal(consumed, input.length)
  const file = join(t.testdir(), 'frame.lz4')
  writeFileSync(file, frameOf(output.subarray(0, produced)))
  t.ok(execFileSync('lz4', ['-d', '-c', file], { stdio: ['ignore', 'pipe', 'pipe'] }).equals(input))
  t.end()
})

t.test('of a file every byte is in one extent, and each block of the index tells where', (t) => {
  fc.assert(
    fc.property(inputs, (input) => {
      if (input.length === 0) return true
      const { extents, blocks } = compressPart(input, 0, 'hc')
      const index = Buffer.from(encodeIndex(extents, input.length, 7))
      if (index.length !== indexBytes(input.length) || blocks.length !== extents.length * BLOCK_BYTES)
        return false
      return extents.every(({ start, isPlain }, number) => {
        const end = extents[number + 1]?.start ?? input.length
        const block = blocks.subarray(number * BLOCK_BYTES, (number + 1) * BLOCK_BYTES)
        const content = isPlain
          ? Buffer.from(block.subarray(0, end - start))
          : unpack(block.subarray(block.findIndex((byte) => byte !== 0)))
        const record = 16 + Math.floor(start / BLOCK_BYTES) * 8
        const isIndexed =
          index.readUInt16LE(record) === (isPlain ? 0 : 1) &&
          index.readUInt16LE(record + 2) === start % BLOCK_BYTES &&
          index.readUInt32LE(record + 4) === 7 + number
        return (
          isIndexed && content.equals(input.subarray(start, end)) && (!isPlain || end - start <= BLOCK_BYTES)
        )
      })
    }),
    { numRuns: 100 },
  )
  t.end()
})

t.test('a run of zeros takes one block per 256 KiB', (t) => {
  t.equal(compressPart(Buffer.alloc(1024 * 1024), 0, 'fast').extents.length, 4)
  t.end()
})
