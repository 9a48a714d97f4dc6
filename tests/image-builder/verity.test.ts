// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import fc from 'fast-check'
import t from 'tap'

import { imageSizes } from '../../image-builder/measure.ts'
import type { ImageSettings } from '../../image-builder/image-settings.ts'
import { layoutImage, overheadBytes } from '../../image-builder/layout.ts'
import { levelsOf, rootHashLine, treeBytes } from '../../image-builder/verity.ts'
import { writeTree } from '../../image-builder/verity-tree.ts'
import { parseSettings } from '../../scripts/settings.ts'
import { sha256 } from '../../scripts/digest.ts'

const MIB = 1024 * 1024

t.test('levels are as many as the data needs', async (t) => {
  t.strictSame(levelsOf(1), [1])
  t.strictSame(levelsOf(128), [1])
  t.strictSame(levelsOf(129), [2, 1])
  t.strictSame(levelsOf(128 * 128 + 1), [129, 2, 1])
})

t.test('the tree and its root hash are those of veritysetup', async (t) => {
  for (const [sizeMiB, salt] of [
    [1, ''],
    [3, 'ab'.repeat(32)],
    [65, 'c0ffee'],
  ] as const) {
    const layout = layoutImage({
      imageBytes: overheadBytes(false) + sizeMiB * MIB + MIB,
      daxHeader: false,
      diskSignature: 1,
      hashBytes: MIB,
    })
    const folder = t.testdir()
    const file = join(folder, 'image')
    const data = Buffer.alloc(sizeMiB * MIB)
    for (let at = 0; at < data.length; at += 3 * 4096) data.write(sha256(`${String(at)}`), at)
    writeFileSync(file, Buffer.concat([Buffer.alloc(layout.filesystemOffsetBytes), data, Buffer.alloc(MIB)]))
    const descriptor = openSync(file, 'r+')
    const facts = await writeTree(file, descriptor, layout, salt)
    closeSync(descriptor)
    writeFileSync(join(folder, 'data'), data)
    const argv = ['format', '--no-superblock', `--salt=${salt === '' ? '-' : salt}`]
    const said = execFileSync('veritysetup', [...argv, join(folder, 'data'), join(folder, 'tree')], {
      encoding: 'utf8',
    })
    t.match(said, facts.rootHash, `${String(sizeMiB)} MiB`)
    const tree = readFileSync(join(folder, 'tree'))
    const start = layout.hashOffsetBytes
    t.equal(tree.length, treeBytes(data.length))
    t.ok(
      readFileSync(file)
        .subarray(start, start + tree.length)
        .equals(tree),
    )
  }
})

t.test('the line is the one that runtimes read', async (t) => {
  t.equal(
    rootHashLine({ rootHash: 'ab', salt: 'cd', dataBlocks: 5 }),
    'root_hash=ab,salt=cd,data_blocks=5,data_block_size=4096,hash_block_size=4096\n',
  )
})

t.test(
  'of any image: the data fits, the tree fits, and the size is a multiple of what is asked for',
  async () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40_000 }),
        fc.constantFrom('1', '2', '128', ''),
        fc.boolean(),
        (neededMiB, alignment, isReadOnly) => {
          const settings = parseSettings({
            MEASURED_ROOTFS: 'yes',
            IMAGE_SIZE_ALIGNMENT_MB: alignment,
          }) as ImageSettings
          const neededBytes = neededMiB * MIB - 1000
          const { imageBytes, hashBytes } = imageSizes(settings, neededBytes, isReadOnly)
          const dataBytes = imageBytes - overheadBytes(true) - hashBytes
          const align = (alignment === '' ? (isReadOnly ? 2 : 128) : Number(alignment)) * MIB
          return dataBytes >= neededBytes && treeBytes(dataBytes) <= hashBytes && imageBytes % align === 0
        },
      ),
    )
  },
)
