// SPDX-License-Identifier: Apache-2.0
import { createWriteStream, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'

import t from 'tap'
import type { Test } from 'tap'
import { pack } from 'tar-stream'

import { checkPulled } from '../../rootfs-builder/pulled-entry.ts'

interface Made {
  readonly name: string
  readonly type?: 'directory' | 'symlink' | 'link' | 'fifo' | 'character-device' | 'block-device'
  readonly linkname?: string
  readonly devmajor?: number
  readonly devminor?: number
  readonly body?: string
}

const folder = (name: string): Made => ({ name, type: 'directory' })
const file = (name: string): Made => ({ name, body: 'x' })
const link = (name: string, linkname: string): Made => ({ name, type: 'symlink', linkname })
const second = (name: string, linkname: string): Made => ({ name, type: 'link', linkname })

async function writeTar(path: string, members: readonly Made[]): Promise<void> {
  const archive = pack()
  const written = pipeline(archive, createWriteStream(path))
  for (const { body, ...header } of members) archive.entry(header, body ?? '')
  archive.finalize()
  await written
}

async function base(t: Test, members: readonly Made[]): Promise<void> {
  const entry = t.testdir({})
  await writeTar(join(entry, 'tree.tar'), members)
  await checkPulled({ stage: 'base', key: 'k' }, entry)
}

const ROWS = [
  { path: '', was: 'directory', is: 'directory' },
  { path: 'etc', was: 'directory', is: 'directory' },
  { path: 'etc/a\u00e4\n"', was: 'absent', is: 'other' },
  { path: 'etc/gone', was: 'other', is: 'absent' },
]
const DELTA = [folder('./'), folder('./etc/'), file('./etc/a\u00e4\n"')]

async function delta(t: Test, members: readonly Made[], told: unknown): Promise<void> {
  const entry = t.testdir({})
  await writeTar(join(entry, 'paths.tar'), members)
  writeFileSync(join(entry, 'delta.json'), JSON.stringify(told))
  await checkPulled({ stage: 'provisioned', key: 'k' }, entry)
}

t.test('trees as they are made here are sound', async (t) => {
  await base(t, [
    folder('./'),
    folder('./dev/'),
    { name: './dev/null', type: 'character-device', devmajor: 1, devminor: 3 },
    file('./a b\n\\"\u{1f600}'),
    second('./other name', './a b\n\\"\u{1f600}'),
    link('./run', '/run'),
    link('./up', '../../x -> y'),
    { name: './pipe', type: 'fifo' },
  ])
  await delta(t, DELTA, { rows: ROWS, clamped: [] })
})

for (const [what, members, why] of [
  ['a path out of the tree', [file('./../x')], /no path below/],
  ['an absolute path', [file('/etc/x')], /no path below/],
  ['a path of no tree', [file('x')], /no path below/],
  ['two members of one name', [link('./a', 'b'), folder('./a/')], /there twice/],
  ['a member below a link', [link('./x', 'run'), file('./x/evil')], /below x, which is no folder/],
  ['a member below a link that comes later', [file('./x/y/evil'), link('./x', 'run')], /below x/],
  ['another name of a file of the host', [second('./x', '/etc/shadow')], /no path below/],
  ['another name of what a link leads to', [second('./x', './run/secret')], /no file before it/],
  ['another name of a link', [link('./l', '/etc/shadow'), second('./x', './l')], /no file before it/],
  ['a disk', [{ name: './etc/hostname', type: 'block-device', devmajor: 8, devminor: 0 }], /is a device/],
] as const satisfies readonly (readonly [string, readonly Made[], RegExp])[]) {
  t.test(`a base tree with ${what} is not taken`, async (t) => {
    await t.rejects(base(t, members), { code: 'E_INPUT', because: [why] })
  })
}

for (const [what, members, told, why] of [
  ['a member that is no row', [...DELTA, file('./var')], { rows: ROWS, clamped: [] }, /not what delta\.json/],
  [
    'a link where a folder is told',
    [folder('./'), link('./etc', 'x')],
    { rows: ROWS, clamped: [] },
    /not what/,
  ],
  ['a row without its member', DELTA.slice(0, 2), { rows: ROWS, clamped: [] }, /lacks etc\/a/],
  ['no rows', DELTA, { rows: null, clamped: [] }, /no list/],
  ['nothing told', DELTA, {}, /no list/],
  ['null told', DELTA, null, /no list/],
  [
    'a row that is none',
    DELTA,
    { rows: ROWS, clamped: [{ path: 1, was: 'other', is: 'other' }] },
    /row is none/,
  ],
  [
    'a row of no kind',
    DELTA,
    { rows: [{ path: 'x', was: 'other', is: 'link' }], clamped: [] },
    /row is none/,
  ],
] as const satisfies readonly (readonly [string, readonly Made[], unknown, RegExp])[]) {
  t.test(`a delta with ${what} is not taken`, async (t) => {
    await t.rejects(delta(t, members, told), { code: 'E_INPUT', because: [why] })
  })
}
