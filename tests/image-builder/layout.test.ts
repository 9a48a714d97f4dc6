// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'

import fc from 'fast-check'
import t from 'tap'

import {
  SECTOR_BYTES,
  layoutImage,
  mbr,
  overheadBytes,
  pfnInfoBlock,
  roundUp,
} from '../../image-builder/layout.ts'
import type { ImageLayout, MbrRequest } from '../../image-builder/layout.ts'
import { sha256 } from '../../scripts/digest.ts'
import { toolEnvironment } from '../../scripts/settings.ts'

const MIB = 1024 * 1024

function partition(record: Uint8Array): { start: number; count: number; type: number | undefined } {
  const bytes = Buffer.from(record)
  return { start: bytes.readUInt32LE(454), count: bytes.readUInt32LE(458), type: bytes[450] }
}

/** A sparse file with all of an image but its filesystem, as a device that begins at `skip`. */
function writeSparse(file: string, layout: ImageLayout, skip: number): void {
  const descriptor = openSync(file, 'w')
  ftruncateSync(descriptor, layout.imageBytes - skip)
  for (const { bytes, offsetBytes } of layout.pieces) {
    if (offsetBytes >= skip) writeSync(descriptor, bytes, 0, bytes.length, offsetBytes - skip)
  }
  closeSync(descriptor)
}

t.test('the info block is byte for byte the one the NVDIMM driver accepts', async (t) => {
  const block = pfnInfoBlock()
  t.equal(sha256(block), 'b502df4b37a7b6ba1f3c93416b77768a9f6df41ce2ec7fe46804180ca2191553')
  t.equal(Buffer.from(block.subarray(4088)).toString('hex'), '303894e32b035b68')
})

t.test('both partition tables point at one filesystem', async (t) => {
  const layout = layoutImage({ imageBytes: 128 * MIB, daxHeader: true, diskSignature: 1 })
  t.strictSame(
    layout.pieces.map(({ offsetBytes }) => offsetBytes),
    [0, 4096, 2 * MIB],
  )
  const [first, , second] = layout.pieces
  if (first === undefined || second === undefined) throw new Error('pieces are missing')
  for (const { bytes, offsetBytes } of [first, second]) {
    const { start, count, type } = partition(bytes)
    t.equal(offsetBytes + start * SECTOR_BYTES, layout.filesystemOffsetBytes)
    t.equal(count * SECTOR_BYTES, layout.filesystemBytes)
    t.equal(type, 0x83)
  }
  t.equal(layout.filesystemOffsetBytes, 3 * MIB)
})

t.test('a plain disk has one table and its filesystem at 1 MiB', async (t) => {
  const layout = layoutImage({ imageBytes: 64 * MIB, daxHeader: false, diskSignature: 1 })
  t.equal(layout.pieces.length, 1)
  t.equal(layout.filesystemOffsetBytes, MIB)
  t.equal(overheadBytes(false), MIB)
})

for (const [name, daxHeader, skip] of [
  ['a plain disk', false, 0],
  ['a disk with the header', true, 0],
  ['an NVDIMM, behind the header', true, 2 * MIB],
] as const) {
  t.test(`fdisk and parted see the one partition of ${name}`, async (t) => {
    const file = join(t.testdir(), 'disk.img')
    for (const sizeMiB of [8, 128, 20_000]) {
      const layout = layoutImage({ imageBytes: sizeMiB * MIB, daxHeader, diskSignature: 0x12ab34cd })
      writeSparse(file, layout, skip)
      const start = (layout.filesystemOffsetBytes - skip) / SECTOR_BYTES
      const end = (layout.imageBytes - skip) / SECTOR_BYTES - 1
      const options = { encoding: 'utf8', env: toolEnvironment(), stdio: 'pipe' } as const
      const fdisk = execFileSync('fdisk', ['-l', file], options)
      t.match(fdisk, /Disk identifier: 0x12ab34cd/)
      t.match(
        fdisk,
        new RegExp(`disk\\.img1 +${String(start)} +${String(end)} +${String(end - start + 1)} .* 83 Linux`),
      )
      const parted = execFileSync('parted', ['-s', file, 'unit', 's', 'print'], options)
      t.match(
        parted,
        new RegExp(`^ 1 +${String(start)}s +${String(end)}s +${String(end - start + 1)}s +primary`, 'm'),
      )
    }
  })
}

t.test('the partition ends at the last sector, whatever the size', async () => {
  const sectors = fc.integer({ min: (4 * MIB) / SECTOR_BYTES, max: 2 ** 32 - 1 })
  fc.assert(
    fc.property(sectors, fc.boolean(), fc.nat(0xffffffff), (count, daxHeader, diskSignature) => {
      const layout = layoutImage({ imageBytes: count * SECTOR_BYTES, daxHeader, diskSignature })
      return layout.pieces
        .filter(({ bytes }) => bytes.length === SECTOR_BYTES)
        .every(({ bytes, offsetBytes }) => {
          const found = partition(bytes)
          const endBytes = offsetBytes + (found.start + found.count) * SECTOR_BYTES
          const signature = Buffer.from(bytes).readUInt32LE(440)
          return (
            endBytes === layout.imageBytes &&
            signature === diskSignature &&
            bytes[510] === 0x55 &&
            bytes[511] === 0xaa
          )
        })
    }),
  )
})

t.test('a disk that is too large for the table is refused', async (t) => {
  const request = (sizeBytes: number): MbrRequest => ({
    partitions: [{ startBytes: MIB, sizeBytes }],
    diskSignature: 0,
  })
  t.throws(() => mbr(request(2 ** 41)), { code: 'E_CONFIG', hint: /IMG_SIZE/ })
  t.doesNotThrow(() => mbr(request(2 ** 41 - MIB)))
})

t.test('rounding up keeps a multiple', async (t) => {
  t.strictSame(
    [0, 1, 128, 129].map((value) => roundUp(value, 128)),
    [0, 128, 128, 256],
  )
})
