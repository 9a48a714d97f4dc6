// SPDX-License-Identifier: Apache-2.0
import {
  chmodSync,
  lstatSync,
  lutimesSync,
  renameSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { changedPaths, listTree, readListing, settleTimes } from '../../scripts/tree-stamp.ts'

/** Long enough for the clock of inodes to go on; it has the kernel's tick. */
function tick(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 20))
}

t.test('a tree that nobody touched has the same stamp', async (t) => {
  const root = t.testdir({ a: 'x', b: { c: '' } })
  t.equal((await listTree(root)).stamp, (await listTree(root)).stamp)
})

t.test('a touched file changes the stamp, though size and time were put back', async (t) => {
  const root = t.testdir({ a: 'x', b: '' })
  const file = join(root, 'a')
  utimesSync(file, 1000, 1000)
  const before = await listTree(root)
  await tick()
  writeFileSync(file, 'y')
  utimesSync(file, 1000, 1000)
  const after = await listTree(root)
  t.not(after.stamp, before.stamp)
  t.strictSame(changedPaths(before.lines, after.lines, 5), ['a'])
})

t.test('a new mode, a new file and a removed file change the stamp', async (t) => {
  const root = t.testdir({ a: 'x' })
  const before = await listTree(root)
  await tick()
  chmodSync(join(root, 'a'), 0o600)
  const changed = await listTree(root)
  t.not(changed.stamp, before.stamp)
  writeFileSync(join(root, 'new'), '')
  t.not((await listTree(root)).stamp, changed.stamp)
  t.strictSame(changedPaths(changed.lines, (await listTree(root)).lines, 5), ['new'])
  t.strictSame(changedPaths((await listTree(root)).lines, changed.lines, 5), ['new'])
  t.equal(changedPaths([], (await listTree(root)).lines, 2).length, 2)
})

t.test('a new name of the root does not change the stamp', async (t) => {
  const folder = t.testdir({ root: { a: 'x', b: { c: '' } } })
  const before = (await listTree(join(folder, 'root'))).stamp
  await tick()
  renameSync(join(folder, 'root'), join(folder, 'renamed'))
  t.equal((await listTree(join(folder, 'renamed'))).stamp, before)
})

t.test('a listing kept in a file reads back the same, whatever the names', async (t) => {
  const folder = t.testdir({ root: { 'tab\there': '', 'line\nbreak': '', ' ': '' } })
  const { lines } = await listTree(join(folder, 'root'))
  writeFileSync(join(folder, 'listing'), lines.join('\n'))
  t.strictSame(changedPaths(readListing(join(folder, 'listing')), lines, 5), [])
})

t.test(
  'what the build wrote gets the clock of the build, what packages brought keeps its time',
  async (t) => {
    const root = t.testdir({ old: '', written: '', folder: { future: '' }, 'older-than-build': '' })
    const [epoch, start] = [1_000_000, 2_000_000]
    symlinkSync('nowhere', join(root, 'link'))
    const times = {
      old: 500_000,
      written: start + 5,
      'older-than-build': 1_500_000,
      'folder/future': 3_000_000,
      link: start,
      folder: 400_000,
    }
    for (const [name, time] of Object.entries(times)) lutimesSync(join(root, name), time, time)
    const entries = await settleTimes(root, '/final', epoch, start * 1000 + 999)
    const sources = entries.filter(({ type }) => type === 'file').map(({ source }) => source)
    t.strictSame(sources, ['/final/folder/future', '/final/old', '/final/older-than-build', '/final/written'])
    const time = (name: string): number => lstatSync(join(root, name)).mtimeMs / 1000
    t.equal(time('old'), 500_000)
    t.equal(time('folder'), 400_000)
    for (const name of ['written', 'older-than-build', 'folder/future', 'link', '.'])
      t.equal(time(name), epoch, name)
  },
)
