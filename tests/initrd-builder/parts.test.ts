// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { newcEntries, newcSizeBytes } from '../../initrd-builder/newc.ts'
import { packParts } from '../../initrd-builder/pack-parts.ts'
import { cutParts, earlierParts, forgetParts, keepParts, rememberParts } from '../../initrd-builder/parts.ts'
import type { KeyedPart, PlacedPart } from '../../initrd-builder/parts.ts'
import { outputStamp } from '../../scripts/manifest.ts'
import { readTree } from '../../scripts/tree.ts'
import type { TreeEntry } from '../../scripts/tree.ts'
import { entryOf, fileOf, treeOf } from '../image-builder/ext4-fixture.ts'

const EPOCH = 1_700_000_000
const WANTED_BYTES = 32 * 1024
const ZSTD = ['zstd', '-q', '-T0', '--no-check', '-c', '-3'] as const
const NONE: ReadonlyMap<string, PlacedPart> = new Map()

function cut(tree: readonly TreeEntry[]): KeyedPart[] {
  return cutParts(tree, newcEntries(tree, { epochSeconds: EPOCH }), WANTED_BYTES)
}

/** A tree of many files; each has a line that is its own. */
function many(...more: readonly TreeEntry[]): TreeEntry[] {
  const files = Array.from({ length: 400 }, (_, index) =>
    fileOf(`d/file-${String(index)}`, `${String(index)} `.repeat(1 + ((index * 37) % 500)), {
      ctimeMs: index,
    }),
  )
  return treeOf(entryOf('d', 'directory'), ...files, ...more)
}

function keysOf(parts: readonly KeyedPart[]): string[] {
  return parts.map(({ key }) => key)
}

/** How many keys of `after` are not in `before`. */
function newKeys(before: readonly KeyedPart[], after: readonly KeyedPart[]): number {
  const old = new Set(keysOf(before))
  return keysOf(after).filter((key) => !old.has(key)).length
}

t.test('the parts are the archive, in its order and with its end', async (t) => {
  const tree = many(fileOf('d/a-large', Buffer.alloc(5 * WANTED_BYTES)))
  const described = newcEntries(tree, { epochSeconds: EPOCH })
  const parts = cut(tree)
  t.strictSame(
    parts.flatMap(({ entries }) => entries.map(({ path }) => path)),
    described.map(({ path }) => path),
  )
  t.equal(
    parts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    newcSizeBytes(described),
  )
  const sizes = parts.slice(0, -1).map(({ sizeBytes }) => sizeBytes)
  t.ok(parts.length > 8)
  const large = sizes.filter((sizeBytes) => sizeBytes > WANTED_BYTES * 1.5)
  t.equal(large.length, 1, 'only the large file is larger')
  t.equal(new Set(keysOf(parts)).size, parts.length)
})

t.test('a change alters the key of its own part, and most cuts stay where they are', async (t) => {
  const before = cut(many())
  t.equal(newKeys(before, cut(many())), 0)
  const changed = (change: (entry: TreeEntry) => TreeEntry): number =>
    newKeys(before, cut(many().map((entry) => (entry.path === 'd/file-200' ? change(entry) : entry))))
  t.equal(
    changed((entry) => ({ ...entry, uid: 7 })),
    1,
    'an owner',
  )
  t.equal(
    changed((entry) => ({ ...entry, mode: entry.mode | 0o4000 })),
    1,
    'a mode',
  )
  t.equal(
    changed((entry) => ({ ...entry, mtimeSeconds: 3 })),
    1,
    'a time',
  )
  t.equal(
    changed((entry) => ({ ...entry, source: Buffer.alloc(entry.sizeBytes) })),
    1,
    'content of ours',
  )
  t.equal(
    changed((entry) => ({ ...entry, source: '/host/file', ctimeMs: 1 })),
    1,
    'a file of the host',
  )
  const more = newKeys(before, cut(many(fileOf('d/file-1000', 'a line\n'))))
  t.ok(more >= 1 && more <= 2, `${String(more)} for a file more`)
  const much = newKeys(before, cut(many(fileOf('d/file-1000', Buffer.alloc(WANTED_BYTES / 2)))))
  t.ok(much <= before.length / 2, `${String(much)} of ${String(before.length)} for half a part more`)
})

t.test('a file of the host is known by its change time, a folder by its header alone', async (t) => {
  const at = (ctimeMs: number): TreeEntry[] => treeOf(fileOf('a', 'x', { source: '/host/a', ctimeMs }))
  t.not(cut(at(1))[0]?.key, cut(at(2))[0]?.key)
  const folder = (ctimeMs: number): TreeEntry[] => treeOf(entryOf('a', 'directory', { ctimeMs }))
  t.equal(cut(folder(1))[0]?.key, cut(folder(2))[0]?.key)
  const link = (linkTarget: string): TreeEntry[] => treeOf(entryOf('a', 'symlink', { linkTarget }))
  t.not(cut(link('b'))[0]?.key, cut(link('c'))[0]?.key)
})

t.test('no part begins with a device', async (t) => {
  const devices = Array.from({ length: 600 }, (_, index) =>
    entryOf(`dev${String(index)}`, 'character-device', { rdevMajor: 4, rdevMinor: index }),
  )
  const parts = cut(many(...devices))
  t.ok(parts.length > 3)
  for (const { entries } of parts) t.equal(entries[0]?.header.rdevmajor, 0)
})

/** A folder of the host with some hundred files. */
function hostFiles(folder: string): string {
  const root = join(folder, 'root')
  mkdirSync(join(root, 'd'), { recursive: true })
  for (const { path, source } of many()) {
    if (typeof source === 'object') writeFileSync(join(root, path), source)
  }
  return root
}

function unpacked(initrd: string): Buffer {
  return execFileSync('zstd', ['-q', '-d', '-c', initrd], { maxBuffer: 1 << 28 })
}

/** Parts by their keys. */
function byKey(placed: readonly PlacedPart[]): ReadonlyMap<string, PlacedPart> {
  return new Map(placed.map((part) => [part.key, part]))
}

t.test('what the earlier initrd has is taken from there, and the bytes are the same', async (t) => {
  const folder = t.testdir()
  const root = hostFiles(folder)
  const [first, second, third, fresh] = ['1', '2', '3', 'fresh'].map((name) => join(folder, name)) as [
    ...[string, string, string, string],
  ]
  const before = cut(readTree(root))
  const placed = await packParts(first, { parts: before, argv: ZSTD, earlier: { file: first, parts: NONE } })
  const names = execFileSync('cpio', ['--quiet', '-t'], { input: unpacked(first) }).toString()
  t.strictSame(
    names.trim().split('\n'),
    readTree(root).map(({ path }) => path || '.'),
  )

  // Of the same size, so that all cuts stay.
  const text = 'another text'.padEnd(statSync(join(root, 'd/file-200')).size)
  writeFileSync(join(root, 'd/file-200'), text)
  const parts = cut(readTree(root))
  t.equal(newKeys(before, parts), 1)
  const earlier = { file: first, parts: byKey(placed) }
  const again = await packParts(second, { parts, argv: ZSTD, earlier })
  await packParts(fresh, { parts, argv: ZSTD, earlier: { file: first, parts: NONE } })
  t.ok(readFileSync(second).equals(readFileSync(fresh)))
  const content = execFileSync('cpio', ['--quiet', '-i', '--to-stdout', 'd/file-200'], {
    input: unpacked(second),
  })
  t.equal(content.toString(), text)

  // With no compressor at all there is only the earlier one to take from.
  const all = { file: second, parts: byKey(again) }
  t.strictSame(await packParts(third, { parts, argv: ['false'], earlier: all }), again)
  t.ok(readFileSync(third).equals(readFileSync(fresh)))
})

t.test('a part that fails says why, when nothing is under way any more', async (t) => {
  const folder = t.testdir()
  const root = hostFiles(folder)
  const tree = readTree(root)
  const earlier = { file: '', parts: NONE }
  const failing = ['sh', '-c', 'cat >/dev/null; echo bad >&2; exit 1'] as const
  await t.rejects(packParts(join(folder, 'a'), { parts: cut(tree), argv: failing, earlier }), {
    code: 'E_COMMAND',
    because: [/command/, 'bad'],
  })
  appendFileSync(join(root, 'd/file-300'), 'x')
  await t.rejects(packParts(join(folder, 'b'), { parts: cut(tree), argv: ZSTD, earlier }), {
    code: 'E_INPUT',
    message: 'd/file-300: changed while it was being packed',
  })
  await t.rejects(packParts(join(folder, 'b'), { parts: cut(tree), argv: ZSTD, earlier }), { code: 'EEXIST' })
})

t.test('parts are remembered of an initrd as it was left', async (t) => {
  const folder = t.testdir({ initrd: 'content', others: 'other content' })
  const output = join(folder, 'initrd')
  const parts = [{ key: 'k', offsetBytes: 6, sizeBytes: 3, window: 88 }]
  t.equal(earlierParts(output, 'inputs').size, 0, 'nothing is known yet')
  rememberParts(output, output, 'inputs', parts)
  t.strictSame([...earlierParts(output, 'inputs').values()], parts)
  t.equal(earlierParts(output, 'other inputs').size, 0)

  // A segment is put behind it.
  const stamp = outputStamp(output)
  appendFileSync(output, ' and a segment')
  t.equal(earlierParts(output, 'inputs').size, 0, 'somebody wrote to it')
  keepParts(output, 'of another one', output)
  t.equal(earlierParts(output, 'inputs').size, 0)
  keepParts(output, stamp, output)
  t.equal(earlierParts(output, 'inputs').size, 1)

  const index = join(folder, '.initrd.parts')
  const whole = readFileSync(index)
  for (const broken of ['', '{', whole.subarray(0, -9)]) {
    writeFileSync(index, broken)
    t.equal(earlierParts(output, 'inputs').size, 0, 'what was cut off is nothing')
  }
  writeFileSync(index, whole)

  renameSync(join(folder, 'others'), output)
  t.equal(earlierParts(output, 'inputs').size, 0, 'it is another file')
  rmSync(output)
  t.equal(earlierParts(output, 'inputs').size, 0, 'it is gone')
  forgetParts(output)
  t.strictSame(readdirSync(folder), [])
})
