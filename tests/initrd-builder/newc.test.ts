// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

import { pack as openPack } from 'cpio-stream'
import fc from 'fast-check'
import t from 'tap'

import { newcEntries } from '../../initrd-builder/newc.ts'
import type { TreeEntry } from '../../scripts/tree.ts'

const EPOCH_SECONDS = 1_700_000_000
const FIELD_MAX = 2 ** 32 - 1

/** One entry as a reader of the archive sees it. */
interface ReadEntry {
  readonly name: string
  readonly ino: number
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly nlink: number
  readonly mtime: number
  readonly rdevmajor: number
  readonly rdevminor: number
  readonly body: Buffer
}

const FIELDS = [
  ...['ino', 'mode', 'uid', 'gid', 'nlink', 'mtime', 'size'],
  ...['devmajor', 'devminor', 'rdevmajor', 'rdevminor', 'namesize'],
]

/** A strict newc reader, written from buffer-format.rst. */
function parseNewc(archive: Buffer): ReadEntry[] {
  const entries: ReadEntry[] = []
  for (let offset = 0; ;) {
    if (archive.toString('latin1', offset, offset + 6) !== '070701') throw new Error(`no magic at ${offset}`)
    const field = (name: string): number => {
      const start = offset + 6 + FIELDS.indexOf(name) * 8
      const digits = archive.toString('latin1', start, start + 8)
      if (!/^[0-9A-F]{8}$/.test(digits)) throw new Error(`${name}: ${digits}`)
      return parseInt(digits, 16)
    }
    const nameEnd = offset + 110 + field('namesize')
    if (archive[nameEnd - 1] !== 0) throw new Error('name without NUL')
    const name = archive.toString('utf8', offset + 110, nameEnd - 1)
    if (name === 'TRAILER!!!') return entries
    const bodyStart = nameEnd + (-nameEnd & 3)
    const bodyEnd = bodyStart + field('size')
    entries.push({
      name,
      ino: field('ino'),
      mode: field('mode'),
      uid: field('uid'),
      gid: field('gid'),
      nlink: field('nlink'),
      mtime: field('mtime'),
      rdevmajor: field('rdevmajor'),
      rdevminor: field('rdevminor'),
      body: archive.subarray(bodyStart, bodyEnd),
    })
    offset = bodyEnd + (-bodyEnd & 3)
  }
}

/** What a reader finds after cpio-stream has written `tree`. */
async function written(tree: readonly TreeEntry[], epochSeconds = EPOCH_SECONDS): Promise<ReadEntry[]> {
  const pack = openPack({ format: 'newc' })
  for (const { header, body } of newcEntries(tree, { epochSeconds })) {
    pack.entry({ ...header }, Buffer.from(body?.source ?? ''))
  }
  pack.finalize()
  return parseNewc(Buffer.concat((await pack.toArray()) as Buffer[]))
}

async function writtenOne(entry: TreeEntry, epochSeconds = EPOCH_SECONDS): Promise<ReadEntry> {
  const [read] = await written([entry], epochSeconds)
  if (read === undefined) throw new Error('nothing written')
  return read
}

const BASE = { uid: 0, gid: 0, sizeBytes: 0, mtimeSeconds: 1000, rdevMajor: 0, rdevMinor: 0 }

function file(path: string, text = '', more: Partial<TreeEntry> = {}): TreeEntry {
  const source = Buffer.from(text)
  return { ...BASE, path, type: 'file', mode: 0o100644, source, sizeBytes: source.length, ...more }
}

function directory(path: string): TreeEntry {
  return { ...BASE, path, type: 'directory', mode: 0o040755 }
}

function symlink(path: string, linkTarget: string): TreeEntry {
  return { ...BASE, path, type: 'symlink', mode: 0o120777, linkTarget }
}

function refusal(tree: readonly TreeEntry[]): Error {
  try {
    newcEntries(tree, { epochSeconds: EPOCH_SECONDS })
  } catch (error) {
    if (error instanceof Error) return error
  }
  throw new Error('was not refused')
}

t.test('cpio-stream is the version whose traps are known', (t) => {
  const manifest = createRequire(import.meta.url).resolve('cpio-stream/package.json')
  t.match(JSON.parse(readFileSync(manifest, 'utf8')), { version: '1.4.3' })
  t.end()
})

t.test('trap 1: names outside ASCII arrive whole', async (t) => {
  const names = [
    'NetLock_Arany_=Class_Gold=_Főtanúsítvány.crt',
    '漢字',
    'emoji-🚀🧑‍🚀',
    'é',
    'a b',
    'new\nline',
  ]
  const read = await written(names.map((name) => file(name)))
  t.same(
    read.map(({ name }) => name),
    names,
  )
})

t.test('trap 2: a file of mode 000 is not opened to everyone', async (t) => {
  t.equal((await writtenOne(file('shadow', 'x', { mode: 0o100000 }))).mode, 0o100000)
})

t.test('trap 3: time 0 is written as 0, not as now', async (t) => {
  t.equal((await writtenOne(file('a', '', { mtimeSeconds: 0 }))).mtime, 0)
  t.equal((await writtenOne(file('a'), 0)).mtime, 0)
})

t.test('a time before 1970 is written as 0', async (t) => {
  t.equal((await writtenOne(file('a', '', { mtimeSeconds: -5 }))).mtime, 0)
})

t.test('a time after the epoch is written as the epoch, an older one is kept', async (t) => {
  t.equal((await writtenOne(file('a', '', { mtimeSeconds: EPOCH_SECONDS + 1 }))).mtime, EPOCH_SECONDS)
  t.equal((await writtenOne(file('a', '', { mtimeSeconds: EPOCH_SECONDS - 1 }))).mtime, EPOCH_SECONDS - 1)
})

t.test('trap 4: hard links share a number and only the last name has the body', async (t) => {
  const read = await written(['a', 'b', 'c'].map((name) => file(name, 'body', { linkGroup: '8:1' })))
  const [{ ino } = { ino: 0 }] = read
  t.same(
    read.map((each) => [each.ino, each.nlink, each.body.toString()]),
    [
      [ino, 3, ''],
      [ino, 3, ''],
      [ino, 3, 'body'],
    ],
  )
})

t.test('a link whose other names are outside the tree is a file of its own', async (t) => {
  t.match(await writtenOne(file('a', 'body', { linkGroup: '8:1' })), { nlink: 1, body: Buffer.from('body') })
})

t.test('every name of a linked symlink keeps its target', async (t) => {
  const read = await written(['a', 'b'].map((name) => ({ ...symlink(name, 'target'), linkGroup: '8:1' })))
  t.same(
    read.map(({ nlink, body }) => [nlink, body.toString()]),
    [
      [1, 'target'],
      [1, 'target'],
    ],
  )
  t.not(read[0]?.ino, read[1]?.ino)
})

t.test('trap 5: inodes are numbered by names, whatever their numbers on the host', async (t) => {
  const far = { linkGroup: '64769:18446744073709551615' }
  const near = { linkGroup: '64769:18446744073709551614' }
  const tree = [
    directory(''),
    file('a', '', far),
    file('b', '', near),
    file('c', '', far),
    file('d', '', near),
  ]
  const [root, a, b, c, d] = (await written(tree)).map(({ ino }) => ino)
  t.strictSame([c, d], [a, b], 'names of one inode')
  t.equal(new Set([0, root, a, b]).size, 4, 'others, and no reader takes 0 for one')
  const more = await written([...tree.slice(0, 1), file('B'), ...tree.slice(1), file('e')])
  t.strictSame(
    more.filter(({ name }) => !['B', 'e'].includes(name)).map(({ ino }) => ino),
    [root, a, b, c, d],
    'what comes or goes leaves them as they are',
  )
})

t.test('trap 5: names with one digest have two numbers', async (t) => {
  // Both have the CRC-32 4DDB0C25.
  const [first, second] = await written([file('buckeroo'), file('plumless')])
  t.equal(first?.ino, 0x4ddb0c25)
  t.equal(second?.ino, 0x4ddb0c26)
})

t.test('trap 5: a number that does not fit is refused', (t) => {
  const big = { sizeBytes: 2 ** 32, source: '/never/read' }
  t.match(refusal([file('big', '', big)]), { code: 'E_INPUT', message: /^big: size 4294967296 does not fit/ })
  t.match(refusal([file('a', '', { uid: 2 ** 32 })]), { code: 'E_INPUT', message: /^a: uid/ })
  t.match(refusal([file('a', '', { gid: -1 })]), { code: 'E_INPUT', message: /^a: gid -1/ })
  t.match(refusal([file('a', '', { rdevMinor: 0.5 })]), { code: 'E_INPUT', message: /^a: device minor/ })
  t.throws(() => newcEntries([], { epochSeconds: -1 }), { code: 'E_INPUT', message: /^SOURCE_DATE_EPOCH/ })
  t.end()
})

t.test('the largest file that fits is accepted', (t) => {
  const [entry] = newcEntries([file('big', '', { sizeBytes: FIELD_MAX, source: '/never/read' })], {
    epochSeconds: EPOCH_SECONDS,
  })
  t.equal(entry?.header.size, FIELD_MAX)
  t.end()
})

t.test('a device keeps large numbers', async (t) => {
  const device: TreeEntry = {
    ...BASE,
    path: 'd',
    type: 'block-device',
    mode: 0o060660,
    rdevMajor: 259,
    rdevMinor: 1048575,
  }
  t.match(await writtenOne(device), { mode: 0o060660, rdevmajor: 259, rdevminor: 1048575 })
})

t.test('the root is written as a dot', async (t) => {
  t.match(await writtenOne({ ...directory(''), mode: 0o040750 }), { name: '.', mode: 0o040750, nlink: 2 })
})

t.test('an entry without its directory before it is refused', (t) => {
  const lost = { code: 'E_INPUT', message: 'sbin/init: no directory sbin before it' }
  t.match(refusal([file('sbin/init')]), lost)
  t.match(refusal([file('sbin/init'), directory('sbin')]), lost)
  t.match(refusal([symlink('sbin', 'usr/sbin'), file('sbin/init')]), lost)
  t.end()
})

t.test('a name that a reader would misread is refused', (t) => {
  const unfit = { code: 'E_INPUT', message: /an initrd cannot carry this name$/ }
  t.match(refusal([file('TRAILER!!!')]), unfit)
  t.match(refusal([file('lone \ud800 surrogate')]), unfit)
  t.match(refusal([file('é'.repeat(2048))]), unfit)
  t.end()
})

t.test('the longest name the kernel takes is accepted', async (t) => {
  t.equal((await writtenOne(file('n'.repeat(4095)))).name.length, 4095)
})

t.test('a link target that the kernel would skip is refused', (t) => {
  const unfit = { code: 'E_INPUT', message: 'l: an initrd cannot carry the target of this link' }
  t.match(refusal([symlink('l', '')]), unfit)
  t.match(refusal([symlink('l', 'x'.repeat(4096))]), unfit)
  t.match(refusal([{ ...BASE, path: 'l', type: 'symlink', mode: 0o120777 }]), unfit)
  t.end()
})

t.test('an entry that cannot come from a tree is a bug, not a message for the user', (t) => {
  for (const path of ['/a', './a', '../a', 'a/', 'a//b', '.', '..', 'a\0b']) {
    t.match(
      refusal([directory('a'), file(path)]),
      { name: 'Error', message: /not a path below the root/ },
      path,
    )
  }
  t.match(refusal([file('a'), file('a')]), { name: 'Error', message: 'a: listed twice' })
  t.match(refusal([file('a', '', { mode: 0o644 })]), { name: 'Error', message: /not the st_mode of a file/ })
  const { source: _, ...bodiless } = file('a', 'body')
  t.match(refusal([bodiless]), { name: 'Error', message: 'a: 4 bytes and no source' })
  t.end()
})

t.test('names that only look like dots are accepted', async (t) => {
  const names = ['...', '.a', '..a', 'a..', 'a.']
  t.same(
    (await written(names.map((name) => file(name)))).map(({ name }) => name),
    names,
  )
})

t.test('a file without content needs no source', async (t) => {
  const { source: _, ...empty } = file('a')
  t.equal((await writtenOne(empty)).body.length, 0)
})

const anyField = fc.oneof(fc.nat(), fc.constantFrom(0, 0xffff, FIELD_MAX))
const anyName = fc
  .string({ unit: 'binary', minLength: 1, maxLength: 40 })
  .filter((name) => !/[/\0]/.test(name) && !/^\.{1,2}$/.test(name))
const anyFile = fc.record({
  path: anyName,
  mode: fc.nat({ max: 0o7777 }),
  uid: anyField,
  gid: anyField,
  mtimeSeconds: anyField,
  source: fc.uint8Array({ maxLength: 9 }),
})

t.test('any file comes back from the archive as it went in', async (t) => {
  const property = fc.asyncProperty(
    fc.uniqueArray(anyFile, { selector: ({ path }) => path, maxLength: 8 }),
    async (files) => {
      const tree = files.map((some) => ({
        ...file(some.path),
        ...some,
        mode: 0o100000 | some.mode,
        sizeBytes: some.source.length,
      }))
      const expected = tree.map((entry) => ({
        name: entry.path,
        ino: 0,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        nlink: 1,
        mtime: Math.min(entry.mtimeSeconds, EPOCH_SECONDS),
        rdevmajor: 0,
        rdevminor: 0,
        body: Buffer.from(entry.source),
      }))
      const read = await written(tree)
      const numbers = new Set(read.map(({ ino }) => ino))
      const others = read.map((entry) => ({ ...entry, ino: 0 }))
      return numbers.size === tree.length && JSON.stringify(others) === JSON.stringify(expected)
    },
  )
  await t.resolves(fc.assert(property, { numRuns: 300 }))
})

t.test('each inode of any tree has its body once and counts its names', async (t) => {
  const property = fc.asyncProperty(fc.array(fc.nat({ max: 4 }), { maxLength: 20 }), async (groups) => {
    const tree = groups.map((group, index) =>
      file(`f${String(index)}`, `body ${String(group)}`, { linkGroup: String(group) }),
    )
    const read = await written(tree)
    return read.every(({ ino, nlink, body }, index) => {
      const names = read.filter((other) => other.ino === ino)
      const bodies = names.filter((other) => other.body.length > 0)
      const sameGroup = groups.filter((group) => group === groups[index])
      const isRightBody = body.length === 0 || body.toString() === `body ${String(groups[index])}`
      return bodies.length === 1 && names.length === nlink && sameGroup.length === nlink && isRightBody
    })
  })
  await t.resolves(fc.assert(property))
})
