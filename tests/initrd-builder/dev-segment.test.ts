// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { createWriteStream, existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { addSegment, changedEntries, planSegment, rememberBase } from '../../initrd-builder/dev-segment.ts'
import { packNewc } from '../../initrd-builder/pack.ts'
import { listEntries } from '../../scripts/tree-stamp.ts'
import type { TreeEntry } from '../../scripts/tree.ts'
import { entryOf, fileOf, treeOf } from '../image-builder/ext4-fixture.ts'

const EPOCH = 1_700_000_000

/** A tree large enough that one change is a small part of it. */
function tree(...more: readonly TreeEntry[]): TreeEntry[] {
  const folders = Array.from({ length: 20 }, (_, index) => entryOf(`d${String(index)}`, 'directory'))
  return treeOf(...folders, entryOf('etc', 'directory'), ...more)
}

const files = [fileOf('etc/a', 'old', { ctimeMs: 1 }), fileOf('etc/b', 'same', { ctimeMs: 1 })]
const before = tree(...files)

t.test('what changed is told with the folders it is in', (t) => {
  const { lines } = listEntries(before)
  const after = tree(fileOf('etc/a', 'new', { ctimeMs: 2 }), fileOf('etc/b', 'same', { ctimeMs: 1 }))
  const paths = (entries: readonly TreeEntry[] | undefined) => entries?.map(({ path }) => path)
  t.strictSame(paths(changedEntries(lines, after)), ['', 'etc', 'etc/a'])
  t.strictSame(changedEntries(lines, before), [])
  t.strictSame(paths(changedEntries(lines, [...before, fileOf('new', 'x')])), ['', 'new'])
  t.strictSame(paths(changedEntries(lines, tree(fileOf('etc/0', 'x'), ...files))), ['', 'etc', 'etc/0'])
  t.end()
})

t.test('what a segment cannot hold is packed whole', (t) => {
  const { lines } = listEntries(before)
  t.equal(
    changedEntries(
      lines,
      before.filter(({ path }) => path !== 'etc/b'),
    ),
    undefined,
    'a name is gone',
  )
  const renamed = tree(fileOf('etc/a', 'old', { ctimeMs: 1 }), fileOf('etc/c', 'same', { ctimeMs: 1 }))
  t.equal(changedEntries(lines, renamed), undefined, 'a name is another')
  const linked = fileOf('etc/a', 'old', { ctimeMs: 2, linkGroup: '1' })
  t.equal(
    changedEntries(lines, tree(linked, fileOf('etc/b', 'same', { ctimeMs: 1 }))),
    undefined,
    'a hard link',
  )
  const all = before.map((entry) => ({ ...entry, ctimeMs: 3 }))
  t.equal(changedEntries(lines, all), undefined, 'everything changed')
  t.end()
})

t.test('a segment follows the base, and the next one takes its place', async (t) => {
  const folder = t.testdir()
  const output = join(folder, 'initrd.img')
  const whole = join(folder, 'whole')
  await packNewc(before, createWriteStream(whole), { epochSeconds: EPOCH })
  // As a compressor leaves it: of any length.
  execFileSync('zstd', ['-q', whole, '-o', output])
  execFileSync('truncate', ['--size=%4', output])
  writeFileSync(output, Buffer.concat([readFileSync(output), Buffer.from([0])]))
  const baseBytes = statSync(output).size
  rememberBase(output, output, 'inputs', before)

  const sizes: number[] = []
  for (const content of ['newer', 'newest']) {
    const after = tree(
      fileOf('etc/a', content, { ctimeMs: content.length }),
      fileOf('etc/b', 'same', { ctimeMs: 1 }),
    )
    const segment = planSegment(output, 'inputs', after)
    if (segment === undefined) throw new Error('no segment')
    let told = ''
    await addSegment(output, segment, EPOCH, (file) => (told = file))
    t.match(told, /tmp-/)
    const bytes = readFileSync(output)
    sizes.push(bytes.length)
    const start = Math.ceil(baseBytes / 4) * 4
    t.equal(bytes.subarray(start, start + 6).toString(), '070701', 'it begins where the kernel looks')
    const added = execFileSync('cpio', ['--quiet', '-i', '--to-stdout', 'etc/a'], {
      input: bytes.subarray(start),
    })
    t.equal(added.toString(), content)
  }
  t.equal(sizes[0], sizes[1], 'segments do not pile up')

  t.equal(planSegment(output, 'others', before), undefined, 'other settings')
  const listing = readFileSync(join(folder, '.initrd.img.listing'))
  writeFileSync(join(folder, '.initrd.img.listing'), listing.subarray(0, -100))
  t.equal(planSegment(output, 'inputs', before), undefined, 'half a list')
  writeFileSync(join(folder, '.initrd.img.listing'), listing)
  t.strictSame(planSegment(output, 'inputs', before)?.entries.length, 0)
  writeFileSync(output, 'somebody else wrote it')
  t.equal(planSegment(output, 'inputs', before), undefined)
})

t.test('when it fails the base is what remains, and nothing else', async (t) => {
  const folder = t.testdir()
  const output = join(folder, 'initrd.img')
  await packNewc(before, createWriteStream(output), { epochSeconds: EPOCH })
  rememberBase(output, output, 'inputs', before)
  const whole = readFileSync(output)
  const segment = planSegment(output, 'inputs', [...before, fileOf('new', 'x')])
  if (segment === undefined) throw new Error('no segment')
  await t.rejects(
    addSegment(output, segment, EPOCH, () => {
      throw new Error('full')
    }),
    /full/,
  )
  t.ok(readFileSync(output).equals(whole))
  t.strictSame(readdirSync(folder), ['initrd.img'])
  t.notOk(existsSync(join(folder, '.initrd.img.dev')))
})
