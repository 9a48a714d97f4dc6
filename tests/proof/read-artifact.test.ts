// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { createWriteStream, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { packNewc } from '../../initrd-builder/pack.ts'
import { checkRootHash } from '../../proof/check.ts'
import { firstDifferenceOfFiles } from '../../proof/compare-outputs.ts'
import { listContent } from '../../proof/listing.ts'
import { unpacked } from '../../proof/read-artifact.ts'
import { readNewc } from '../../proof/read-newc.ts'
import { computeRootHash } from '../../proof/root-hash.ts'
import { commonAdditions, fileEntry, linkEntry } from '../../scripts/additions.ts'
import type { TreeEntry } from '../../scripts/tree.ts'

const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
t.teardown(() => {
  rmSync(scratch, { recursive: true, force: true })
})

const FOLDER: TreeEntry = { ...fileEntry('', Buffer.alloc(0), 7), type: 'directory', mode: 0o040755 }
const ENTRIES: readonly TreeEntry[] = [
  FOLDER,
  { ...FOLDER, path: 'dev' },
  ...commonAdditions([{ ...FOLDER, path: 'dev' }], 7),
  { ...fileEntry('empty', Buffer.alloc(0), 7) },
  { ...fileEntry('one', Buffer.from('linked'), 7), linkGroup: 'a' },
  { ...fileEntry('two', Buffer.from('linked'), 7), linkGroup: 'a', uid: 0 },
  linkEntry('way', '/to/it', 7),
  { ...fileEntry('wörd', Buffer.from('content of an odd length'), 7, 0o4755), uid: 12, gid: 34 },
]

t.test('an archive is read back as the entries it was packed from, however it was compressed', async (t) => {
  const plain = join(scratch, 'plain.cpio')
  await packNewc(ENTRIES, createWriteStream(plain), { epochSeconds: 7 })
  for (const [tool, ...flags] of [
    ['gzip', '-nc'],
    ['zstd', '-qc'],
    ['xz', '-c'],
    ['lz4', '-lqc'],
  ] as const) {
    const file = join(scratch, `archive.${tool}`)
    writeFileSync(file, execFileSync(tool, [...flags, plain]))
    const entries = readNewc(await unpacked(file, scratch), file)
    t.strictSame(listContent(entries), listContent(ENTRIES), tool)
  }
  t.strictSame(listContent(readNewc(await unpacked(plain, scratch), plain)), listContent(ENTRIES), 'none')
  const bytes = readFileSync(plain)
  for (const length of [0, 5, 200, bytes.indexOf('TRAILER!!!') - 120])
    t.throws(() => readNewc(bytes.subarray(0, length), 'x'), { code: 'E_DIGEST' }, `cut at ${String(length)}`)
})

/** Data of blocks that differ, and its root hash by `veritysetup format --no-superblock --salt=00ff10`. */
const ROOT_HASHES: readonly (readonly [number, string])[] = [
  [1, 'e516f0f7e86b849e77e50aa306d9bc2a0593ddfd265713f2f090ff3106b0c5ea'],
  [3, '2711a36e6e98bf73f1a2e210bc004c590fab2b2c3e68edccb9461cc98a236fa5'],
  [200, 'e76c2a709365b3fc51e63ba7f52faffdb23a8341446854e4d846b6dddbdd5854'],
]

t.test('the root hash is the one of veritysetup, and another bit has another', (t) => {
  const file = join(scratch, 'data')
  for (const [blocks, expected] of ROOT_HASHES) {
    const data = Buffer.concat(Array.from({ length: blocks }, (_, index) => Buffer.alloc(4096, index % 251)))
    writeFileSync(file, Buffer.concat([Buffer.alloc(512, 0xee), data]))
    const place = { offsetBytes: 512, sizeBytes: data.length }
    t.equal(computeRootHash(file, place, '00ff10'), expected, `${String(blocks)} blocks`)
    const manifest = {
      format: 'osbuilder-manifest-1',
      kind: 'image',
      name: 'data',
      fingerprint: '',
      inputs: {},
      result: {
        verity: { rootHash: expected, salt: '00ff10', dataOffsetBytes: 512, dataBytes: data.length },
      },
    } as const
    t.equal(checkRootHash({ path: file, manifest }), expected)
    data[data.length - 1] = 0x7f
    writeFileSync(file, Buffer.concat([Buffer.alloc(512, 0xee), data]))
    t.throws(() => checkRootHash({ path: file, manifest }), /does not have the root hash of its manifest/)
    t.equal(checkRootHash({ path: file, manifest: { ...manifest, result: {} } }), undefined)
  }
  t.end()
})

t.test('the first byte that differs between two files', (t) => {
  const [one, two] = [join(scratch, 'one'), join(scratch, 'two')]
  mkdirSync(join(scratch, 'folder'))
  const bytes = Buffer.alloc(5 * 1024 * 1024, 1)
  writeFileSync(one, bytes)
  writeFileSync(two, bytes)
  t.equal(firstDifferenceOfFiles(one, two), undefined)
  bytes[4_500_000] = 2
  writeFileSync(two, bytes)
  t.equal(firstDifferenceOfFiles(one, two), 4_500_000)
  writeFileSync(two, bytes.subarray(0, 4_400_000))
  t.equal(firstDifferenceOfFiles(one, two), 4_400_000)
  t.end()
})
