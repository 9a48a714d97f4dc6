// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import fs, {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'

import fc from 'fast-check'
import t from 'tap'

import { fileEntry } from '../../scripts/additions.ts'
import { compareBytes, readTree, withEntries } from '../../scripts/tree.ts'

t.test('names are ordered by their bytes, also where UTF-16 orders them otherwise', async (t) => {
  const names = ['a', 'a-b', 'a/b', 'é', '\u{e000}', '\u{fffd}', '\u{1f600}', '\u{10ffff}']
  t.strictSame([...names].reverse().sort(compareBytes), names)
  const bytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b))
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: 'binary' }),
      (a, b) => compareBytes(a, b) === bytes(a, b),
    ),
  )
})

t.test('a tree is read in byte order, the root first', async (t) => {
  const root = t.testdir({ a: { b: '' }, 'a-b': '', '\u{fffd}': '', '\u{1f600}': '', Z: '' })
  t.strictSame(
    readTree(root).map(({ path }) => path),
    ['', 'Z', 'a', 'a-b', 'a/b', '\u{fffd}', '\u{1f600}'],
  )
})

t.test('every entry tells type, mode, size, time and target', async (t) => {
  const root = t.testdir({ file: 'abc', folder: {} })
  chmodSync(join(root, 'file'), 0o4751)
  utimesSync(join(root, 'file'), 1000.9, 1000.9)
  symlinkSync('/absolute/dangling', join(root, 'link'))
  execFileSync('mkfifo', [join(root, 'pipe')])
  const tree = new Map(readTree(root).map((entry) => [entry.path, entry]))
  t.match(tree.get('file'), {
    type: 'file',
    mode: 0o104751,
    sizeBytes: 3,
    mtimeSeconds: 1000,
    source: join(root, 'file'),
  })
  t.match(tree.get('folder'), { type: 'directory', sizeBytes: 0 })
  t.match(tree.get('link'), { type: 'symlink', linkTarget: '/absolute/dangling', sizeBytes: 0 })
  t.match(tree.get('pipe'), { type: 'fifo' })
  t.notOk(tree.get('file')?.linkGroup)
})

t.test('the names of one inode share a link group, and no other has it', async (t) => {
  const root = t.testdir({ a: 'x', other: 'x', folder: { inside: {} } })
  for (const name of ['b', 'folder/c']) linkSync(join(root, 'a'), join(root, name))
  linkSync(join(root, 'other'), join(root, 'other2'))
  const groups = new Map(readTree(root).map(({ path, linkGroup }) => [path, linkGroup]))
  t.ok(groups.get('a'))
  t.equal(groups.get('b'), groups.get('a'))
  t.equal(groups.get('folder/c'), groups.get('a'))
  t.not(groups.get('other'), groups.get('a'))
  t.equal(groups.get('folder'), undefined)
})

t.test('a name that is not UTF-8 is refused with its bytes', async (t) => {
  const root = t.testdir({ folder: {} })
  const broken = Buffer.concat([Buffer.from(join(root, 'folder/x')), Buffer.from([0xff])])
  writeFileSync(broken, '')
  t.throws(() => readTree(root), { code: 'E_INPUT', because: [/78ff/] })
  fs.rmSync(broken)
})

t.test('the sign for a broken character is a good name itself', async (t) => {
  t.equal(readTree(t.testdir({ 'x\u{fffd}': '' })).length, 2)
})

t.test('large device numbers are taken apart as glibc does', async (t) => {
  const root = t.testdir({ device: '', block: '' })
  const real = fs.lstatSync
  const numbers: Record<string, [number, bigint, bigint]> = {
    device: [0o020666, 0x12345n, 0xabcden],
    block: [0o060660, 0xfffn, 0xfffffn],
  }
  const fake = ((path: string, options?: never) => {
    const status = real(path, options) as unknown as { mode: number; rdev: number }
    const [mode, major, minor] = numbers[path.slice(root.length + 1)] ?? []
    if (mode === undefined || major === undefined || minor === undefined) return status
    status.mode = mode
    const rdev =
      ((major & 0xfffn) << 8n) | ((major & ~0xfffn) << 32n) | (minor & 0xffn) | ((minor & ~0xffn) << 12n)
    status.rdev = Number(rdev)
    return status
  }) as unknown as typeof lstatSync
  Object.assign(fs, { lstatSync: fake })
  syncBuiltinESMExports()
  t.teardown(() => {
    Object.assign(fs, { lstatSync: real })
    syncBuiltinESMExports()
  })
  const tree = new Map(readTree(root).map((entry) => [entry.path, entry]))
  t.match(tree.get('device'), { type: 'character-device', rdevMajor: 0x12345, rdevMinor: 0xabcde })
  t.match(tree.get('block'), { type: 'block-device', rdevMajor: 0xfff, rdevMinor: 0xfffff })
})

t.test('additions replace what has their path and keep the order', async (t) => {
  const entry = (path: string, text: string) => fileEntry(path, Buffer.from(text), 0)
  const joined = withEntries([entry('a', 'old'), entry('c', 'c')], [entry('b', 'b'), entry('a', 'new')])
  t.strictSame(
    joined.map(({ path, source }) => [path, String(source)]),
    [
      ['a', 'new'],
      ['b', 'b'],
      ['c', 'c'],
    ],
  )
})

t.test('a folder can be read that has a folder deep below it', async (t) => {
  const root = t.testdir()
  mkdirSync(join(root, Array.from({ length: 100 }, () => 'd').join('/')), { recursive: true })
  t.equal(readTree(root).length, 101)
})
