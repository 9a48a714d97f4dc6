// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'

import t from 'tap'

import { COMPRESSIONS, compressorArgv, partBytes } from '../../initrd-builder/compress.ts'
import type { Compression, CompressionName } from '../../initrd-builder/compress.ts'

const NAMES = Object.keys(COMPRESSIONS) as CompressionName[]
const RUN_NAMES = NAMES.filter((name) => name !== 'none')

/** The kernel refuses larger windows. Source: lib/decompress_unzstd.c, ZSTD_WINDOWSIZE_MAX. */
const KERNEL_WINDOW_LOG_MAX = 27

function pipe(argv: readonly string[], input: Uint8Array): Buffer {
  const [tool = '', ...args] = argv
  return execFileSync(tool, args, { input, maxBuffer: 1 << 28 })
}

function compressed(name: CompressionName, input: Uint8Array, level?: number): Buffer {
  return pipe(compressorArgv(name, level) ?? ['cat'], input)
}

/** Lines that every compressor shortens and that never repeat as a whole. */
function sampleOf(sizeBytes: number): Buffer {
  const blocks: string[] = []
  for (let index = 0; index * 88 < sizeBytes; index++) {
    blocks.push(`a line of the sample is: ${createHash('sha256').update(String(index)).digest('hex')}\n`)
  }
  return Buffer.from(blocks.join('')).subarray(0, sizeBytes)
}

const SAMPLE = sampleOf(300_000)

for (const name of RUN_NAMES) {
  const { levels }: Compression = COMPRESSIONS[name]
  t.test(`${name} gives back what it got, at low, default and high level`, (t) => {
    for (const level of [levels?.min, levels?.default, Math.min(levels?.max ?? 0, 19)]) {
      const packed = compressed(name, SAMPLE, level)
      t.ok(packed.length < SAMPLE.length, `level ${String(level)} is smaller`)
      t.ok(pipe([name, '-d', '-c'], packed).equals(SAMPLE), `level ${String(level)} is whole`)
    }
    t.end()
  })

  t.test(`${name} writes the magic the kernel looks for`, (t) => {
    const { magic } = COMPRESSIONS[name]
    t.equal(compressed(name, SAMPLE).toString('hex', 0, magic.length / 2), magic)
    t.end()
  })

  t.test(`${name} writes the same bytes on one core as on all`, (t) => {
    // Enough for two jobs of zstd at level 1, and two blocks of a threaded xz.
    const sample = sampleOf(5_000_000)
    const argv = compressorArgv(name, 1) ?? []
    t.ok(pipe(argv, sample).equals(pipe(['taskset', '-c', '0', ...argv], sample)))
    t.end()
  })
}

t.test('zstd writes the same bytes for any number of threads but not for --single-thread', (t) => {
  const sample = sampleOf(9_000_000)
  const digestWith = (threads: string): string =>
    createHash('sha256')
      .update(pipe(['zstd', '-q', threads, '-c', '-1'], sample))
      .digest('hex')
  const expected = digestWith('-T0')
  t.equal(digestWith('-T1'), expected)
  t.equal(digestWith('-T3'), expected)
  t.not(digestWith('--single-thread'), expected, 'the reason why -T is always given')
  t.end()
})

t.test('the highest zstd level keeps within the window the kernel takes', (t) => {
  const header = compressed('zstd', Buffer.from('x'.repeat(2000)), COMPRESSIONS.zstd.levels.max)
  const windowDescriptor = header.readUInt8(5)
  const windowLog = 10 + (windowDescriptor >> 3) + ((windowDescriptor & 7) === 0 ? 0 : 1)
  t.ok(windowLog <= KERNEL_WINDOW_LOG_MAX, `2^${String(windowLog)} bytes`)
  t.end()
})

t.test('xz carries the only checksum the kernel knows', (t) => {
  const XZ_CHECK_CRC32 = 1
  t.equal(compressed('xz', SAMPLE).readUInt8(7), XZ_CHECK_CRC32)
  t.end()
})

t.test('gzip leaves name and time out of its header', (t) => {
  t.equal(compressed('gzip', SAMPLE).toString('hex', 3, 8), '0000000000')
  t.end()
})

t.test('a level is the last word of the command', (t) => {
  t.same(compressorArgv('zstd'), ['zstd', '-q', '-T0', '--no-check', '-c', '-6'])
  t.same(compressorArgv('zstd', 19), ['zstd', '-q', '-T0', '--no-check', '-c', '-19'])
  t.same(compressorArgv('zstd', 20), ['zstd', '-q', '-T0', '--no-check', '-c', '--ultra', '-20'])
  t.same(compressorArgv('gzip'), ['gzip', '-n', '-c', '-6'])
  t.same(compressorArgv('xz', 0), ['xz', '-q', '-T1', '--check=crc32', '-c', '-0'])
  t.same(compressorArgv('lz4'), ['lz4', '-q', '-l', '-c', '-9'])
  t.equal(compressorArgv('none'), undefined)
  t.end()
})

t.test('a level that does not exist is refused with the levels that do', (t) => {
  const message = 'zstd level 23: expected 1 to 22'
  t.throws(() => compressorArgv('zstd', 23), { code: 'E_CONFIG', message })
  t.throws(() => compressorArgv('gzip', 0), { code: 'E_CONFIG' })
  t.throws(() => compressorArgv('xz', 1.5), { code: 'E_CONFIG' })
  t.throws(() => compressorArgv('none', 1), { code: 'E_CONFIG', message: 'compression none: takes no level' })
  t.end()
})

t.test('an archive is cut for zstd only, into parts that grow with the level', (t) => {
  const mib = (level?: number) => (partBytes('zstd', level) ?? 0) / 1024 / 1024
  t.strictSame([mib(), mib(1), mib(9), mib(19), mib(20)], [8, 8, 16, 64, 0])
  for (const name of NAMES.filter((other) => other !== 'zstd')) t.equal(partBytes(name), undefined)
  t.end()
})

t.test('every compression names its kernel option, and every compressor its package', (t) => {
  for (const name of NAMES) t.match(COMPRESSIONS[name].kernelSymbol, /^CONFIG_(RD_|BLK_DEV_INITRD$)/)
  for (const name of RUN_NAMES) t.match(COMPRESSIONS[name], { debianPackage: /^[a-z0-9-]+$/ })
  t.end()
})
