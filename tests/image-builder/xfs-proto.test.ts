// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check'
import t from 'tap'

import { prototypeOf, standInFor } from '../../image-builder/filesystem/xfs-proto.ts'
import { entryOf, fileOf, treeOf } from './ext4-fixture.ts'

/** Source: linux/fs/xfs/libxfs/xfs_da_btree.c, xfs_da_hashname, one byte at a time */
function hashOf(bytes: Buffer): number {
  return bytes.reduce((hash, byte) => (byte ^ ((hash << 7) | (hash >>> 25))) >>> 0, 0)
}

t.test('a stand-in has the length and the hash of the name, and no space in it', async (t) => {
  fc.assert(
    fc.property(
      fc.string({ minLength: 2, maxLength: 60, unit: fc.constantFrom(' ', '\t', '\n', ':', 'a', 'ő', '!') }),
      (name) => {
        const standIn = Buffer.from(standInFor(name), 'latin1')
        const raw = Buffer.from(name)
        return standIn.length === raw.length && hashOf(standIn) === hashOf(raw)
      },
    ),
  )
  for (const name of ['a b', ':etc:chrony', ' a', 'a ', 'two\nlines'])
    t.notMatch(standInFor(name), /^:|[ \t\n]/)
  t.equal(standInFor('plain:name'), 'plain:name')
})

t.test('a prototype has a line for each entry, and an empty file for a second name', async (t) => {
  const { text, files } = prototypeOf(
    treeOf(
      entryOf('d', 'directory', { uid: 5 }),
      fileOf('d/a', 'content', { linkGroup: '1' }),
      fileOf('d/b', 'content', { linkGroup: '1' }),
      fileOf('d/host', '', { source: '/somewhere/d/host', sizeBytes: 3, mode: 0o104750 }),
      entryOf('l', 'symlink', { linkTarget: 'd/a' }),
      entryOf('null', 'character-device', { rdevMajor: 1, rdevMinor: 3, mode: 0o020666 }),
    ),
  )
  t.equal(
    text.toString('latin1'),
    [
      '/dev/null',
      '0 0',
      'd--755 0 0',
      'd d--755 5 0',
      'a ---644 0 0 made-3',
      'b ---644 0 0 /dev/null',
      'host ---750 0 0 rootfs/d/host',
      '$',
      'l l--777 0 0 d/a',
      'null c--666 0 0 1 3',
      '$',
      '',
    ].join('\n'),
  )
  t.equal(Buffer.from(files.get('made-3') ?? '').toString(), 'content')
})

t.test('what a prototype cannot say is refused', async (t) => {
  t.throws(() => prototypeOf(treeOf(entryOf('s', 'socket'))), { message: /^s: is a socket/ })
  t.throws(() => prototypeOf(treeOf(entryOf('$', 'fifo'))), { message: /cannot make a file of this name/ })
  t.throws(() => prototypeOf(treeOf(entryOf('l', 'symlink', { linkTarget: 'a b' }))), {
    message: /a link to a b/,
  })
})
