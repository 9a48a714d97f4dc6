// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'

import fc from 'fast-check'
import t from 'tap'

import { encodeExtentTree, openSpace } from '../../image-builder/filesystem/ext4-extents.ts'
import { geometryOf, hasSuperblock } from '../../image-builder/filesystem/ext4-geometry.ts'
import { minimumExt4Bytes, planExt4 } from '../../image-builder/filesystem/ext4-plan.ts'
import type { TreeEntry } from '../../scripts/tree.ts'
import {
  BLOCK_SIZES,
  IDENTITY,
  complaintsAbout,
  entryOf,
  fileOf,
  planOf,
  treeOf,
  writePlan,
} from './ext4-fixture.ts'

const MIB = 1024 * 1024
const DEFAULTS = { ...IDENTITY, sizeBytes: 16 * MIB, blockSizeBytes: 4096 } as const

t.test('what ext4 cannot store is refused by name', async (t) => {
  const cases: readonly (readonly [string, readonly TreeEntry[], RegExp])[] = [
    ['no root', [fileOf('a', '')], /^root directory: missing/],
    ['no parent', treeOf(fileOf('a/b', '')), /^a\/b: its parent directory is missing/],
    ['absolute path', treeOf(fileOf('/b', '')), /^\/b: its parent directory is missing/],
    ['file as parent', treeOf(fileOf('a', ''), fileOf('a/b', '')), /^a\/b: its parent is not a directory/],
    ['twice', treeOf(fileOf('a', ''), fileOf('a', '')), /^a: is listed twice/],
    ['dot', treeOf(fileOf('..', '')), /is not a name a directory can hold/],
    ['long name', treeOf(fileOf('ő'.repeat(128), '')), /its name is longer than 255 bytes/],
    ['file as lost+found', treeOf(fileOf('lost+found', '')), /^lost\+found: is a file/],
    ['empty target', treeOf(entryOf('l', 'symlink', { linkTarget: '' })), /^l: its target has 0 bytes/],
    ['long target', treeOf(entryOf('l', 'symlink', { linkTarget: 'x'.repeat(4096) })), /expected 1 to 4095/],
    [
      'large device',
      treeOf(entryOf('d', 'block-device', { rdevMajor: 4096 })),
      /^d: device 4096:0 is beyond/,
    ],
    ['wrong length', treeOf({ ...fileOf('a', 'xy'), sizeBytes: 3 }), /^a: its content is not 3 bytes long/],
    ['no content', treeOf(entryOf('a', 'file', { sizeBytes: 3 })), /^a: its content is not 3 bytes long/],
    [
      'foreign xattr',
      treeOf(fileOf('a', '', { xattrs: new Map([['btrfs.x', Buffer.from('1')]]) })),
      /btrfs\.x cannot be stored/,
    ],
    [
      'nameless xattr',
      treeOf(fileOf('a', '', { xattrs: new Map([['user.', Buffer.from('1')]]) })),
      /user\. cannot be stored/,
    ],
    [
      'huge xattr',
      treeOf(fileOf('a', '', { xattrs: new Map([['user.x', Buffer.alloc(4096)]]) })),
      /^a: too many extended/,
    ],
    [
      'odd access control list',
      treeOf(fileOf('a', '', { xattrs: new Map([['system.posix_acl_access', Buffer.from('1')]]) })),
      /is not an access control list/,
    ],
  ]
  for (const [name, entries, message] of cases) {
    t.throws(() => planExt4(entries, DEFAULTS), { code: 'E_INPUT', message }, name)
  }
})

t.test('more names of one file than ext4 counts are refused', async (t) => {
  const names = Array.from({ length: 65_001 }, (_, index) => fileOf(String(index), '', { linkGroup: 'g' }))
  t.throws(() => planExt4(treeOf(...names), DEFAULTS), { code: 'E_INPUT', message: /has 65001 names/ })
})

t.test('wrong settings are refused by name', async (t) => {
  const cases = [
    { change: { sizeBytes: 16 * MIB + 1 }, message: /^sizeBytes=/ },
    { change: { blockSizeBytes: 512 as 1024 }, message: /^blockSizeBytes=512/ },
    { change: { uuid: 'x' }, message: /^uuid=x: expected a UUID/ },
    { change: { label: 'seventeen letters' }, message: /^label=/ },
    { change: { epochSeconds: -1 }, message: /^epochSeconds=-1/ },
    { change: { reservedPercent: 51 }, message: /^reservedPercent=51/ },
    { change: { sizeBytes: 4 * MIB }, message: /cannot be made/ },
    { change: { inodeCount: 1e9 }, message: /cannot be made/ },
  ]
  for (const { change, message } of cases) {
    t.throws(() => planExt4(treeOf(), { ...DEFAULTS, ...change }), { code: 'E_CONFIG', message })
  }
})

t.test('a filesystem that is too small names what is needed and what there is', async (t) => {
  const entries = treeOf(fileOf('large', new Uint8Array(20 * MIB)))
  t.throws(() => planExt4(entries, DEFAULTS), {
    code: 'E_CONFIG',
    message: /too small for the tree/,
    because: [/needed: \d+ bytes and 12 inodes/, /available: \d+ bytes/],
  })
})

t.test('too few inodes are refused', async (t) => {
  const entries = treeOf(...Array.from({ length: 500 }, (_, index) => fileOf(String(index), '')))
  t.throws(() => planExt4(entries, { ...DEFAULTS, inodeCount: 128 }), {
    code: 'E_CONFIG',
    because: [/needed: 511 inodes/, /available: 128 inodes/],
  })
})

t.test('a tree of many small files gets the inodes it needs and some more', async (t) => {
  const entries = treeOf(...Array.from({ length: 5000 }, (_, index) => fileOf(String(index), '')))
  const plan = planOf(entries, { blockSizeBytes: 4096 })
  t.ok(plan.freeInodes >= 500, `${String(plan.freeInodes)} free`)
})

t.test('a directory with more subdirectories than a count holds has one link', async (t) => {
  const directories = Array.from({ length: 65_000 }, (_, index) => entryOf(`d/${String(index)}`, 'directory'))
  const entries = treeOf(entryOf('d', 'directory'), ...directories)
  const imageFile = join(t.testdir({}), 'image')
  writePlan(imageFile, planOf(entries, { blockSizeBytes: 1024 }))
  t.equal(complaintsAbout(imageFile), '')
})

t.test('copies of the superblock are in groups 0, 1 and powers of 3, 5 and 7', async (t) => {
  const groups = Array.from({ length: 130 }, (_, group) => group).filter(hasSuperblock)
  t.same(groups, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125])
})

t.test('a last group too short for its metadata is left out', async (t) => {
  const geometry = geometryOf({ blockCount: 8193 + 60, blockSizeBytes: 1024, usedInodes: 11 })
  t.equal(geometry?.groupCount, 1)
  t.equal(geometry?.blockCount, 8193)
})

t.test('an extent tree grows as deep as it must', async (t) => {
  const extents = Array.from({ length: 400 }, (_, index) => ({ startBlock: 10 * index, blockCount: 1 }))
  const treeBlocks = Array.from({ length: 6 }, (_, index) => 100_000 + index)
  const tree = encodeExtentTree(
    { extents, treeBlocks, xattrBlock: undefined },
    { blockSizeBytes: 1024, inodeSeed: 1 },
  )
  t.same(
    tree.blocks.map(({ block }) => block),
    treeBlocks,
    '5 leaves and the node above them',
  )
  t.equal(tree.root[6], 2, 'depth')
})

t.test('space past the end is counted', async (t) => {
  const geometry = geometryOf({ blockCount: 2048, blockSizeBytes: 1024, usedInodes: 11 })
  if (geometry === undefined) throw new Error('no geometry')
  const space = openSpace(geometry)
  space.allocate({ dataBlocks: 5000, xattrBlocks: 1 })
  t.equal(space.takenBlocks(), 5001)
})

const NAMES = fc.uniqueArray(
  fc
    .string({ unit: 'grapheme', minLength: 1, maxLength: 60 })
    .filter((name) => !/[/\0]|^\.{1,2}$|^lost\+found$/.test(name)),
  { maxLength: 40 },
)

t.test(
  'of random trees the filesystem is clean, and the minimum neither too small nor too large',
  async (t) => {
    const directory = t.testdir({})
    const property = fc.property(
      NAMES,
      fc.array(fc.integer({ min: 0, max: 600_000 }), { minLength: 40, maxLength: 40 }),
      fc.constantFrom(...BLOCK_SIZES),
      fc.constantFrom(0, 1, 3 * MIB, 25 * MIB),
      (names, sizes, blockSizeBytes, freeBytes) => {
        const entries = treeOf(...names.map((name, index) => randomEntry(name, sizes[index] ?? 0)))
        const request = { ...IDENTITY, blockSizeBytes }
        const sizeBytes = minimumExt4Bytes(entries, { blockSizeBytes, freeBytes })
        const plan = planExt4(entries, { ...request, sizeBytes })
        const imageFile = join(directory, 'image')
        writePlan(imageFile, plan)
        const complaints = complaintsAbout(imageFile)
        if (complaints !== '') throw new Error(complaints)
        return plan.availableBytes >= freeBytes && !isEnough(entries, request, { sizeBytes, freeBytes })
      },
    )
    fc.assert(property, { numRuns: 25, seed: 1 })
  },
)

function randomEntry(name: string, size: number): TreeEntry {
  if (size % 7 === 0) return entryOf(name, 'directory')
  if (size % 7 === 1) return entryOf(name, 'symlink', { linkTarget: 't'.repeat(1 + (size % 200)) })
  return fileOf(name, new Uint8Array(size).fill(3), {
    xattrs: new Map([['user.x', Buffer.alloc(size % 300, 'x')]]),
  })
}

/** Whether one block less would do, too. */
function isEnough(
  entries: readonly TreeEntry[],
  request: typeof IDENTITY & { readonly blockSizeBytes: 1024 | 2048 | 4096 },
  { sizeBytes, freeBytes }: { readonly sizeBytes: number; readonly freeBytes: number },
): boolean {
  try {
    const plan = planExt4(entries, { ...request, sizeBytes: sizeBytes - request.blockSizeBytes })
    return plan.availableBytes >= freeBytes
  } catch {
    // Too small, as it should be.
    return false
  }
}
