// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'

import fc from 'fast-check'
import t from 'tap'

import {
  FRAME_END,
  PART_START_BYTES,
  beginPart,
  frameStart,
  takeBlocks,
} from '../../initrd-builder/zstd-frame.ts'

function zstd(flags: readonly string[], input: Uint8Array): Buffer {
  return execFileSync('zstd', ['-q', '-c', ...flags], { input, maxBuffer: 1 << 28 })
}

/** The start of a part as the format has it; `fill` is what no one decides. */
function headOf(fill: string): Buffer {
  return Buffer.from(fill.repeat(PART_START_BYTES).slice(0, 78) + '0'.repeat(17))
}

interface Part {
  readonly head: Buffer
  readonly body: Uint8Array
}

/** Parts compressed each for itself, and joined. */
function join(parts: readonly Part[], flags: readonly string[], pieceBytes = 65536): Buffer {
  const taken = parts.map(({ body }) => {
    const frame = zstd(['--no-check', ...flags], body)
    const pieces = Array.from({ length: Math.ceil(frame.length / pieceBytes) }, (_, index) =>
      frame.subarray(index * pieceBytes, (index + 1) * pieceBytes),
    )
    return takeBlocks(pieces)
  })
  const blocks = taken.flatMap(({ pieces }, index) => [
    beginPart(parts[index]?.head ?? Buffer.alloc(0)),
    ...pieces,
  ])
  const window = Math.max(...taken.map((each) => each.window))
  return Buffer.concat([frameStart(window), ...blocks, FRAME_END])
}

function contentOf(parts: readonly Part[]): Buffer {
  return Buffer.concat(parts.flatMap(({ head, body }) => [head, body]))
}

t.test('parts joined are one frame of all their content', (t) => {
  const parts = ['a', 'b', 'c'].map((letter, index) => ({
    head: headOf(letter),
    body: Buffer.from(
      `${letter} text that comes again and again, ${String(index)}; `.repeat(9000 * (index + 1)),
    ),
  }))
  const joined = join(parts, ['-T0', '-6'])
  t.ok(zstd(['-d'], joined).equals(contentOf(parts)))
  const folder = t.testdir()
  writeFileSync(`${folder}/joined.zst`, joined)
  const told = execFileSync('zstd', ['-lv', `${folder}/joined.zst`]).toString()
  t.match(told, /Zstandard Frames: 1\n[^]*Window Size: 2.00 MiB[^]*Check: None/)
  t.ok(joined.length < contentOf(parts).length / 20)
  t.end()
})

t.test('content that repeats at its very start comes back, whatever was before it', (t) => {
  // What a compressor says with the offsets a frame begins with, 1, 4 and 8, and with others left behind.
  const start = fc.record({
    unit: fc.uint8Array({ minLength: 1, maxLength: 9 }),
    times: fc.integer({ min: 1, max: 200 }),
    rest: fc.uint8Array({ maxLength: 400 }),
    fill: fc.constantFrom('0', '07', 'abcd', '0123456789abcdef'),
  })
  const property = fc.property(
    fc.array(start, { minLength: 1, maxLength: 5 }),
    fc.constantFrom('-1', '-3', '-6', '-12', '-19'),
    fc.integer({ min: 16, max: 64 }),
    (starts, level, pieceBytes) => {
      const parts = starts.map(({ unit, times, rest, fill }) => ({
        head: headOf(fill),
        body: Buffer.concat([...Array.from({ length: times }, () => unit), rest, unit, unit, unit]),
      }))
      return zstd(['-d'], join(parts, ['-T0', level], pieceBytes)).equals(contentOf(parts))
    },
  )
  fc.assert(property, { numRuns: 150 })
  t.end()
})

t.test('without the offsets that a part begins with the content would be another', (t) => {
  // The second part soon has a match 1 byte back, as a frame's first offset is; the first one ends with 3.
  const parts = ['abc'.repeat(5000), `x${'y'.repeat(5000)}`].map((text) => ({
    head: headOf('x'),
    body: Buffer.from(text),
  }))
  const joined = join(parts, ['-T0', '-6'])
  const setOffsets = beginPart(headOf('x')).subarray(-11)
  const [, second] = parts
  if (second === undefined) throw new Error('no second part')
  const at = joined.lastIndexOf(setOffsets)
  const raw = Buffer.concat([Buffer.from([9 << 3, 0, 0]), second.head.subarray(-9)])
  const broken = Buffer.concat([joined.subarray(0, at), raw, joined.subarray(at + setOffsets.length)])
  t.ok(zstd(['-d'], joined).equals(contentOf(parts)))
  let content: Buffer = Buffer.alloc(0)
  try {
    content = zstd(['-d'], broken)
  } catch {
    // Refused is as good as different.
  }
  t.notOk(content.equals(contentOf(parts)))
  t.end()
})

t.test('the window of a frame is kept, and one of known length has enough', (t) => {
  const windowOf = (flags: readonly string[], sizeBytes: number, viaFile = false): number => {
    const input = Buffer.alloc(sizeBytes, 'some text ')
    const frame = viaFile
      ? zstd(['--no-check', `--stream-size=${String(sizeBytes)}`, ...flags], input)
      : zstd(['--no-check', ...flags], input)
    const { window } = takeBlocks([frame])
    return (1 << (10 + (window >> 3))) * (1 + (window & 7) / 8)
  }
  t.equal(windowOf(['-T0', '-6'], 9_000_000), 2 * 1024 * 1024)
  t.equal(windowOf(['-T0', '-9'], 9_000_000), 4 * 1024 * 1024)
  for (const sizeBytes of [0, 1, 255, 256, 511, 512, 1024, 1025, 65_791, 65_792, 100_000, 1 << 20])
    t.ok(windowOf(['-T0', '-6'], sizeBytes, true) >= sizeBytes, String(sizeBytes))
  t.end()
})

t.test('what is no plain frame is an error', (t) => {
  const input = Buffer.from('some text '.repeat(1000))
  const frame = zstd(['--no-check', '-T0'], input)
  t.throws(() => takeBlocks([]), /no plain frame/)
  t.throws(() => takeBlocks([Buffer.from('gzip, say')]), /no plain frame/)
  t.throws(() => takeBlocks([zstd(['-T0'], input)]), /no plain frame/, 'a checksum')
  t.throws(() => takeBlocks([frame.subarray(0, -1)]), /no whole frame/)
  t.throws(() => takeBlocks([frame, frame]), /more than one/)
  t.throws(() => takeBlocks([frame, Buffer.from('x')]), /more than one/)
  t.end()
})

t.test('a part that begins with a device is an error', (t) => {
  const head = headOf('x')
  head.write('1', 85)
  t.throws(() => beginPart(head), /device/)
  t.throws(() => beginPart(head.subarray(1)), /device/)
  t.end()
})
