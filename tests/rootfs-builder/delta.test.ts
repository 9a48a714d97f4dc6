// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { unpackBase } from '../../rootfs-builder/base-tree.ts'
import {
  applyDelta,
  clampedRows,
  deltaRows,
  findDelta,
  rowsToUndo,
  saveDelta,
  undoDelta,
} from '../../rootfs-builder/delta.ts'
import { clampTimes } from '../../scripts/tree-stamp.ts'
import { readTree } from '../../scripts/tree.ts'

/** Everything of a tree that a packer sees, but for what differs between two unpackings of it. */
function seen(root: string): string[] {
  return readTree(root).map((entry) => {
    const content = entry.type === 'file' ? readFileSync(join(root, entry.path), 'latin1') : entry.linkTarget
    return [
      entry.path,
      entry.mode,
      entry.uid,
      entry.mtimeSeconds,
      content,
      entry.linkGroup !== undefined,
    ].join('|')
  })
}

/** Long enough for the clock of inodes to go on; it has the kernel's tick. */
function tick(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 20))
}

/** A base tree as a tar, and unpacked. */
async function baseTree(folder: string): Promise<{ tar: string; tree: string }> {
  const source = join(folder, 'source')
  mkdirSync(join(source, 'etc/conf.d'), { recursive: true })
  mkdirSync(join(source, 'usr/share/doc'), { recursive: true })
  writeFileSync(join(source, 'etc/passwd'), 'root\n')
  writeFileSync(join(source, 'etc/odd name\nwith a line'), 'odd')
  writeFileSync(join(source, 'etc/conf.d/a'), 'a', { mode: 0o600 })
  writeFileSync(join(source, 'usr/share/doc/b'), 'b')
  linkSync(join(source, 'usr/share/doc/b'), join(source, 'usr/share/doc/c'))
  symlinkSync('usr/share', join(source, 'share'))
  for (const { path, type } of readTree(source).reverse()) {
    if (type !== 'symlink') utimesSync(join(source, path), 1000, 1000)
  }
  utimesSync(join(source, 'etc/conf.d/a'), 3000, 3000)
  const tar = join(folder, 'base.tar')
  execFileSync('tar', ['-C', source, '--sort=name', '-cf', tar, '.'])
  const tree = join(folder, 'tree')
  mkdirSync(tree)
  await unpackBase(tar, tree)
  await tick()
  return { tar, tree }
}

/** What provisioning may do to a tree, and more. */
function provision(tree: string): void {
  writeFileSync(join(tree, 'etc/passwd'), 'root\nguest\n')
  rmSync(join(tree, 'etc/conf.d'), { recursive: true })
  symlinkSync('/nowhere', join(tree, 'etc/conf.d'))
  rmSync(join(tree, 'share'))
  mkdirSync(join(tree, 'share'))
  writeFileSync(join(tree, 'share/new'), 'new')
  rmSync(join(tree, 'usr/share/doc/c'))
  writeFileSync(join(tree, 'usr/share/doc/c'), 'no link')
  chmodSync(join(tree, 'etc/odd name\nwith a line'), 0o4755)
  mkdirSync(join(tree, 'opt/deep/er'), { recursive: true })
  writeFileSync(join(tree, 'init'), '')
  for (const { path, type } of readTree(tree).reverse()) {
    if (type !== 'symlink') utimesSync(join(tree, path), 2000, 2000)
  }
}

const UNCLAMPED = { epochSeconds: 2000, clamped: [], written: {} }

t.test('what was made of a base tree is undone and done again, to the last time stamp', async (t) => {
  const folder = t.testdir()
  const { tar, tree } = await baseTree(folder)
  const pristine = seen(tree)
  const before = readTree(tree)
  provision(tree)
  const provisioned = seen(tree)
  const rows = deltaRows(before, readTree(tree))
  await saveDelta(folder, 'f'.repeat(64), tree, { base: 'b', rows, ...UNCLAMPED })

  await undoDelta(tree, rows, tar)
  t.strictSame(seen(tree), pristine)

  const delta = findDelta(folder, 'f'.repeat(64), 'b')
  t.strictSame(delta?.rows, rows)
  if (delta !== undefined) await applyDelta(tree, delta)
  t.strictSame(seen(tree), provisioned)
  t.equal(findDelta(folder, 'f'.repeat(64), 'another base'), undefined)
  t.equal(findDelta(folder, 'e'.repeat(64), 'b'), undefined)
})

t.test('what nobody touched is not in the delta', async (t) => {
  const { tree } = await baseTree(t.testdir())
  const before = readTree(tree)
  writeFileSync(join(tree, 'etc/passwd'), 'x')
  const rows = deltaRows(before, readTree(tree))
  t.strictSame(
    rows.map(({ path }) => path),
    ['', 'etc', 'etc/passwd'],
  )
})

t.test('a delta over an undone one covers both', async (t) => {
  const folder = t.testdir()
  const { tar, tree } = await baseTree(folder)
  const pristine = seen(tree)
  const before = readTree(tree)
  provision(tree)
  const between = readTree(tree)
  const first = deltaRows(before, between)
  await undoDelta(tree, first, tar)
  await tick()
  writeFileSync(join(tree, 'etc/other'), 'other')
  const second = deltaRows(between, readTree(tree), first)
  t.ok(second.some(({ path, was, is }) => path === 'etc/other' && was === 'absent' && is === 'other'))
  t.notOk(
    second.some(({ path }) => path === 'opt/deep'),
    'what is in neither tree is forgotten',
  )
  await undoDelta(tree, second, tar)
  t.strictSame(seen(tree), pristine)
})

t.test('no link in the tree leads a removal out of it', async (t) => {
  const folder = t.testdir({ outside: { precious: 'x' } })
  const { tar, tree } = await baseTree(folder)
  const before = readTree(tree)
  renameSync(join(tree, 'etc/conf.d'), join(tree, 'etc/old'))
  symlinkSync(join(folder, 'outside'), join(tree, 'etc/conf.d'))
  cpSync(join(tree, 'etc/old/a'), join(folder, 'outside/a'))
  await undoDelta(tree, deltaRows(before, readTree(tree)), tar)
  t.ok(existsSync(join(folder, 'outside/precious')))
  t.ok(existsSync(join(folder, 'outside/a')))
  t.equal(readFileSync(join(tree, 'etc/conf.d/a'), 'utf8'), 'a')
})

t.test('the delta of a stranger removes and writes nothing outside of the tree', async (t) => {
  const folder = t.testdir({ outside: { precious: 'x' } })
  const { tar, tree } = await baseTree(folder)
  symlinkSync(join(folder, 'outside'), join(tree, 'etc/link'))
  for (const path of ['../outside/precious', '../outside', 'etc/link/precious', 'etc//passwd', './etc']) {
    const rows = [{ path, was: 'other', is: 'absent' }] as const
    const delta = { base: 'b', rows, ...UNCLAMPED, tarFile: tar }
    const refused = { code: 'E_INPUT', message: /a path that leads out of the tree/ }
    await t.rejects(applyDelta(tree, delta), refused, path)
    await t.rejects(undoDelta(tree, rows, tar), refused, path)
  }
  t.equal(readFileSync(join(folder, 'outside/precious'), 'utf8'), 'x')
})

t.test('what has only its time of a clock is undone for another clock, and else left alone', async (t) => {
  const { tar, tree } = await baseTree(t.testdir())
  const pristine = seen(tree)
  const base = readTree(tree)
  // The link has the time at which it was made.
  const clamped = clampedRows(base, 2000)
  t.strictSame(
    clamped.map(({ path }) => path),
    ['etc/conf.d/a', 'share'],
  )
  const before = clampTimes(tree, base, 2000)
  await tick()
  writeFileSync(join(tree, 'etc/passwd'), 'x')
  const delta = {
    base: 'b',
    rows: deltaRows(before, readTree(tree)),
    epochSeconds: 2000,
    clamped,
    written: {},
  }
  t.strictSame(
    rowsToUndo(delta, 2000).map(({ path }) => path),
    ['', 'etc', 'etc/passwd'],
  )
  await undoDelta(tree, rowsToUndo(delta, 2001), tar)
  t.strictSame(seen(tree), pristine, 'folders of what was put back have their time as well')
})
