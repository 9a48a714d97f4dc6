// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { findTree } from '../../scripts/tree-find.ts'
import { readTree } from '../../scripts/tree.ts'
import type { TreeEntry } from '../../scripts/tree.ts'

t.test('find tells of the same entries as we see, of every kind and with any name', async (t) => {
  const root = t.testdir({
    file: 'abc',
    ' a  b ': { 'line\nbreak': '', '\u{1f600}': '', 'tab\there \\0 %P': 'x' },
    'a-b': '',
    empty: {},
  })
  chmodSync(join(root, 'file'), 0o6751)
  chmodSync(join(root, 'empty'), 0o1000)
  symlinkSync('/absolute dangling\n', join(root, 'link'))
  symlinkSync('empty', join(root, 'to-folder'))
  linkSync(join(root, 'file'), join(root, 'empty/second'))
  execFileSync('mkfifo', [join(root, 'pipe')])
  // As root alone can make it; numbers that find does not tell.
  if (process.getuid?.() === 0) execFileSync('mknod', [join(root, 'device'), 'b', '259', '65537'])
  lutimesSync(join(root, 'link'), -5.5, -5.5)
  lutimesSync(join(root, 'a-b'), 1_700_000_000.999_999, 1_700_000_000.999_999)
  lutimesSync(join(root, 'pipe'), 0, 0)
  const entries = await findTree(root)
  t.strictSame(entries, readTree(root))
  t.ok(entries.length >= 12)
})

t.test('what is under a temporary name is told by the name it will have', async (t) => {
  const folder = t.testdir({ temporary: { sub: { file: 'abc' }, other: '' } })
  const [temporary, final] = [join(folder, 'temporary'), join(folder, 'final')]
  // What find tells in another form, we read ourselves.
  lutimesSync(join(temporary, 'other'), -5, -5)
  const [found, read] = [await findTree(temporary, final), readTree(temporary, final)]
  renameSync(temporary, final)
  // Giving it its name changes the root's own time.
  const withoutRoot = (entries: readonly TreeEntry[]) => entries.filter(({ path }) => path !== '')
  t.strictSame(withoutRoot(found), withoutRoot(await findTree(final)))
  t.strictSame(withoutRoot(read), withoutRoot(found))
})

t.test('what changed since the last reading is told anew, and nothing else is made out again', async (t) => {
  const folder = t.testdir({ tree: { a: 'x', b: 'y', c: 'z', d: 'v', sub: { same: '' } } })
  const [tree, temporary] = [join(folder, 'tree'), join(folder, 'temporary')]
  symlinkSync('one', join(tree, 'link'))
  const before = await findTree(tree)
  renameSync(tree, temporary)
  writeFileSync(join(temporary, 'a'), 'X')
  chmodSync(join(temporary, 'b'), 0o600)
  linkSync(join(temporary, 'c'), join(temporary, 'second'))
  rmSync(join(temporary, 'd'))
  rmSync(join(temporary, 'link'))
  symlinkSync('two', join(temporary, 'link'))
  const after = await findTree(temporary, tree)
  t.strictSame(after, readTree(temporary, tree))
  const same = after.filter((entry) => before.includes(entry)).map(({ path }) => path)
  t.strictSame(same, ['sub', 'sub/same'])
  t.strictSame(await findTree(temporary), readTree(temporary), 'a name of its own')
})

t.test('a tree of this machine is told to the last bit of its times', async (t) => {
  const folder = join(import.meta.dirname, '..', '..', '..', 'node_modules')
  t.strictSame(await findTree(folder), readTree(folder))
})

t.test('a name that is not UTF-8 is refused, the sign for it is not', async (t) => {
  const root = t.testdir({ 'x\u{fffd}': '' })
  t.equal((await findTree(root)).length, 2)
  const broken = Buffer.concat([Buffer.from(join(root, 'y')), Buffer.from([0xff])])
  writeFileSync(broken, '')
  await t.rejects(findTree(root), { code: 'E_INPUT', because: [/79ff/] })
  rmSync(broken)
})

t.test('where find fails, the reason is that of the system', async (t) => {
  await t.rejects(findTree(join(t.testdir(), 'absent')), { code: 'ENOENT' })
})

t.test('a host whose find cannot print is asked entry by entry', async (t) => {
  const folder = t.testdir({ tree: { a: 'x' }, bin: { find: '#!/bin/sh\ntouch "$0.asked"\nexit 1\n' } })
  chmodSync(join(folder, 'bin/find'), 0o755)
  mkdirSync(join(folder, 'tree/b'))
  const path = process.env['PATH']
  process.env['PATH'] = `${join(folder, 'bin')}:${path ?? ''}`
  t.teardown(() => {
    process.env['PATH'] = path
  })
  t.strictSame(await findTree(join(folder, 'tree')), readTree(join(folder, 'tree')))
  t.ok(existsSync(join(folder, 'bin/find.asked')))
})
