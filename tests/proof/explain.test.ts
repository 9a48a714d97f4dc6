// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { asSeenInside } from '../../proof/compare-outputs.ts'
import { explainTrees } from '../../proof/explain.ts'
import type { Difference } from '../../proof/explain.ts'
import { listContent } from '../../proof/listing.ts'
import { contentOf } from '../../proof/tree-view.ts'
import { fileEntry, linkEntry } from '../../scripts/additions.ts'
import type { TreeEntry } from '../../scripts/tree.ts'

const AROUND = {
  firstPaths: ['/work/one', '/home/anna'],
  secondPaths: ['/tmp/two'],
  firstSpan: [1_795_000_000, 1_795_000_100],
  secondSpan: [1_795_000_200, 1_795_000_300],
} as const

function explain(first: readonly TreeEntry[], second: readonly TreeEntry[]): Difference[] {
  const of = (entries: readonly TreeEntry[], path: string) =>
    contentOf(entries.find((entry) => entry.path === path))
  return explainTrees(listContent(first), listContent(second), AROUND, (path) => [
    of(first, path),
    of(second, path),
  ])
}

const file = (content: string | Buffer, more: Partial<TreeEntry> = {}): TreeEntry => ({
  ...fileEntry('etc/x', Buffer.from(content), 1000),
  ...more,
})

/** The one difference between two versions of a file, as field and cause. */
function one(a: TreeEntry, b: TreeEntry): readonly [string, string] {
  const found = explain([a], [b])
  t.equal(found.length, 1, JSON.stringify(found))
  return [found[0]?.field ?? '', found[0]?.cause ?? '']
}

t.test('equal trees have no difference', (t) => {
  t.strictSame(explain([file('a')], [file('a')]), [])
  t.end()
})

t.test('every kind of difference is named, with its field and its cause', (t) => {
  const rows: readonly (readonly [TreeEntry, TreeEntry, RegExp, RegExp])[] = [
    [file('a', { mode: 0o100644 }), file('a', { mode: 0o100600 }), /^mode$/, /umask/],
    [file('a', { mode: 0o100644 }), file('a', { mode: 0o104755 }), /^mode$/, /not part of the inputs/],
    [file('a'), file('a', { uid: 1000 }), /^owner$/, /whoever built it/],
    [file('a', { mtimeSeconds: 1_795_000_050 }), file('a'), /^time$/, /clock of the machine/],
    [
      file('a', { mtimeSeconds: 20_000 }),
      file('a', { mtimeSeconds: 20_000 + 20_700 }),
      /^time$/,
      /time zone/,
    ],
    [file('a', { mtimeSeconds: 5 }), file('a', { mtimeSeconds: 77_777 }), /^time$/, /copied from/],
    [file('in /work/one/x'), file('in /tmp/two/xy'), /^content at offset 4$/, /names a folder of the build/],
    [file('at 1795000001'), file('at 1795000201'), /^content at offset/, /time of the build/],
    [file('on Mon Nov 21'), file('on Tue Nov 22'), /^content/, /date/],
    [file('b a c'), file('a b c'), /^content at offset 0$/, /another order/],
    [
      file('id 6f9619ff-8b86-d011-b42d-00cf4fc964ff'),
      file('id 7f9619ff-8b86-d011-b42d-00cf4fc964ff'),
      /^content/,
      /UUID/,
    ],
    [file('abc'), file('abd'), /^content at offset 2$/, /random number, the number of processors/],
    [
      file(Buffer.from('1f8b0800aabbccdd', 'hex')),
      file(Buffer.from('1f8b080011223344', 'hex')),
      /offset 4/,
      /gzip -n/,
    ],
    [
      file('a', { xattrs: new Map([['security.selinux', Buffer.from('x')]]) }),
      file('a'),
      /^xattr$/,
      /SELinux/,
    ],
    [
      linkEntry('l', '/work/one/a', 0),
      linkEntry('l', '/tmp/two/a', 0),
      /^link target$/,
      /folder of the build/,
    ],
    [
      { ...file(''), type: 'character-device', rdevMajor: 1, rdevMinor: 3 },
      { ...file(''), type: 'character-device', rdevMajor: 1, rdevMinor: 5 },
      /^device$/,
      /device/,
    ],
  ]
  for (const [a, b, field, cause] of rows) {
    const found = one(a, b)
    t.match(found[0], field)
    t.match(found[1], cause, found[0])
  }
  const binary = (seconds: number): Buffer => {
    const bytes = Buffer.alloc(64, 0xff)
    bytes.writeUInt32LE(seconds, 20)
    return bytes
  }
  t.match(one(file(binary(1_795_000_050)), file(binary(1_795_000_250)))[1], 'as a number')
  t.strictSame(
    explain(
      [file('a', { linkGroup: '1' }), { ...file('a'), path: 'etc/y', linkGroup: '1' }],
      [file('a'), { ...file('a'), path: 'etc/y' }],
    ).map(({ field }) => field),
    ['hard link', 'hard link'],
  )
  t.end()
})

t.test('what is there once, what is another kind, and another order', (t) => {
  const folder: TreeEntry = { ...file(''), path: 'etc', type: 'directory', mode: 0o040755 }
  const found = explain(
    [{ ...folder, mtimeSeconds: 7 }, file('a'), { ...file('t'), path: 'etc/tmp.Xy12Zk' }],
    [folder, file('a')],
  )
  t.strictSame(
    found.map(({ path, field, second }) => [path, field, second]),
    [['etc/tmp.Xy12Zk', 'presence', 'not there']],
    'the time of the folder follows from it and is not told',
  )
  t.match(found[0]?.cause, 'random')
  t.equal(explain([file('a')], [linkEntry('etc/x', 'y', 0)])[0]?.field, 'type')
  const [a, b] = [file('a'), { ...file('b'), path: 'etc/y' }]
  const [order] = explain([a, b], [b, a])
  t.equal(order?.field, 'order')
  t.match(order?.second, 'entry 0 is /etc/y')
  t.end()
})

t.test('owners and capabilities of a user namespace are read as its root sees them', (t) => {
  const inside = Buffer.from('0100000200200000000000000000000000000000', 'hex')
  const outside = Buffer.from('0100000300200000000000000000000000000000400d0300', 'hex')
  const [seen] = asSeenInside(
    [file('a', { uid: 200000, gid: 200042, xattrs: new Map([['security.capability', outside]]) })],
    200000,
  )
  t.equal(seen?.uid, 0)
  t.equal(seen?.gid, 42)
  t.strictSame(Buffer.from(seen?.xattrs?.get('security.capability') ?? []), inside)
  t.end()
})
