// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { shapeDirectory } from '../../image-builder/filesystem/erofs-inode.ts'
import { nodesOf } from '../../image-builder/filesystem/nodes.ts'
import { entryOf, fileOf, treeOf } from './ext4-fixture.ts'

t.test('names of one link group are one node, and names of a folder are in byte order', async (t) => {
  const nodes = nodesOf(
    treeOf(
      entryOf('a', 'directory'),
      fileOf('a-c', '', { linkGroup: '7' }),
      fileOf('a/z', '', { linkGroup: '7' }),
      entryOf('a/sub', 'directory'),
    ),
  )
  t.strictSame(
    nodes.map(({ entry, linkCount, paths }) => [entry.path, linkCount, paths.length]),
    [
      ['', 3, 1],
      ['a', 3, 1],
      ['a-c', 2, 2],
      ['a/sub', 2, 1],
    ],
  )
  t.strictSame(
    nodes[0]?.children.map(({ name }) => name),
    ['a', 'a-c'],
  )
})

t.test('what is no tree is refused', async (t) => {
  t.throws(() => nodesOf([entryOf('', 'file')]), { message: /root is not a directory/ })
  t.throws(() => nodesOf(treeOf(fileOf('a/b', ''))), { message: /a\/b: its parent/ })
  t.throws(() => nodesOf(treeOf(entryOf('a', 'fifo'), entryOf('a', 'fifo'))), { message: /listed twice/ })
  t.throws(() => nodesOf(treeOf(entryOf('n'.repeat(256), 'fifo'))), { message: /longer than 255/ })
})

t.test('names fill blocks, and only the last is as long as they need', async (t) => {
  const names = Array.from({ length: 300 }, (_, index) => `name-${String(index).padStart(7, '0')}`)
  const { counts, sizeBytes } = shapeDirectory(names)
  t.strictSame(counts, [170, 130])
  t.equal(sizeBytes, 4096 + 130 * 24)
})
