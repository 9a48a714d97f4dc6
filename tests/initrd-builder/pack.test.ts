// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  chmodSync,
  createWriteStream,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Writable } from 'node:stream'

import t from 'tap'

import { packNewc } from '../../initrd-builder/pack.ts'
import { compareBytes, readTree } from '../../scripts/tree.ts'
import type { TreeEntry } from '../../scripts/tree.ts'

const EPOCH_SECONDS = Date.UTC(2023, 0, 1) / 1000
const MIB_BYTES = 1 << 20
const ORACLE_ENV = { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8', TZ: 'UTC' }

const BASE = { uid: 0, gid: 0, sizeBytes: 0, mtimeSeconds: 86_400, rdevMajor: 0, rdevMinor: 0 }

function file(path: string, source: string | Uint8Array, more: Partial<TreeEntry> = {}): TreeEntry {
  const bytes = typeof source === 'string' ? Buffer.from(source) : source
  return { ...BASE, path, type: 'file', mode: 0o100644, source: bytes, sizeBytes: bytes.length, ...more }
}

function node(path: string, type: TreeEntry['type'], mode: number, more: Partial<TreeEntry> = {}): TreeEntry {
  return { ...BASE, path, type, mode, ...more }
}

/** A file on disk as the walk saw it, whatever it is by now. */
function fileOnDisk(source: string, sizeBytes: number): TreeEntry {
  return file('some/file', '', { path: 'file', source, sizeBytes })
}

const BIG_BYTES = 3 * MIB_BYTES

const NASTY_TREE: readonly TreeEntry[] = [
  node('', 'directory', 0o040755),
  node('dev', 'directory', 0o040755),
  node('dev/console', 'character-device', 0o020600, { rdevMajor: 5, rdevMinor: 1 }),
  node('dev/nvme', 'block-device', 0o060660, { rdevMajor: 259, rdevMinor: 1_048_575, gid: 6 }),
  node('dev/tty', 'character-device', 0o020666, { rdevMajor: 4095, rdevMinor: 70_000 }),
  node('empty directory', 'directory', 0o041777),
  file('empty file', ''),
  file('Főtanúsítvány.crt', 'certificate\n'),
  file('links 1', 'linked', { linkGroup: '1:1' }),
  file('links 2', 'linked', { linkGroup: '1:1' }),
  file('links 3', 'linked', { linkGroup: '1:1' }),
  file('mtime 0', 'x', { mtimeSeconds: 0 }),
  file('new\nline', 'xy'),
  node('pipe', 'fifo', 0o010644),
  file('setuid', 'xyz', { mode: 0o104755 }),
  file('shadow', 'secret', { mode: 0o100000, gid: 42 }),
  node('socket', 'socket', 0o140755),
  node('symlink absolute', 'symlink', 0o120777, { linkTarget: '/etc/漢字' }),
  node('symlink dangling', 'symlink', 0o120777, { linkTarget: '../nowhere' }),
  file('uid 70000', 'five!', { uid: 70_000, gid: 4_000_000_000 }),
  file('z big', Buffer.alloc(BIG_BYTES, 'big')),
  file('漢字', '漢'),
  file('🚀🧑‍🚀', '🚀'),
].sort((a, b) => compareBytes(a.path, b.path))

/** A sink that keeps everything. */
function collector(): { sink: Writable; bytes: () => Buffer } {
  const chunks: Buffer[] = []
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(Buffer.from(chunk))
      done()
    },
  })
  return { sink, bytes: () => Buffer.concat(chunks) }
}

async function packed(tree: readonly TreeEntry[], epochSeconds = EPOCH_SECONDS): Promise<Buffer> {
  const { sink, bytes } = collector()
  const { sizeBytes } = await packNewc(tree, sink, { epochSeconds })
  if (sizeBytes !== bytes().length)
    throw new Error(`said ${String(sizeBytes)}, wrote ${String(bytes().length)}`)
  return bytes()
}

async function packingFailure(
  tree: readonly TreeEntry[],
  sink: Writable = collector().sink,
): Promise<unknown> {
  return packNewc(tree, sink, { epochSeconds: EPOCH_SECONDS }).then(
    () => 'it was packed',
    (error: unknown) => error,
  )
}

function oracle(argv: readonly [string, ...string[]], archive: Uint8Array, cwd?: string): string {
  const [tool, ...args] = argv
  return execFileSync(tool, args, { input: archive, env: ORACLE_ENV, cwd, encoding: 'utf8' })
}

/** A new directory of this test; tap's own are named after the test file and would be shared. */
function temporaryDirectory(t: Tap): string {
  const path = mkdtempSync(join(tmpdir(), 'osbuilder-pack-'))
  t.teardown(() => {
    rmSync(path, { recursive: true, force: true })
  })
  return path
}

type Tap = Pick<typeof t, 'teardown'>

const MODE_LETTERS: Readonly<Record<TreeEntry['type'], string>> = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  'character-device': 'c',
  'block-device': 'b',
  fifo: 'p',
  socket: 's',
}

function modeText({ type, mode }: TreeEntry): string {
  const bits = [...'rwxrwxrwx'].map((letter, index) => ((mode >> (8 - index)) & 1 ? letter : '-'))
  if (mode & 0o4000) bits[2] = 's'
  if (mode & 0o1000) bits[8] = 't'
  return MODE_LETTERS[type] + bits.join('')
}

/** What both oracles print of an entry, without the columns that differ between them. */
function expectedFacts(entry: TreeEntry, tree: readonly TreeEntry[]): string {
  const names = tree.filter(({ linkGroup }) => linkGroup !== undefined && linkGroup === entry.linkGroup)
  const isBodyElsewhere = names.length > 1 && names.at(-1) !== entry
  const isDevice = entry.type === 'character-device' || entry.type === 'block-device'
  const contentBytes = Buffer.byteLength(entry.linkTarget ?? '') || entry.sizeBytes
  const nlink = entry.type === 'directory' ? 2 : Math.max(1, names.length)
  const size = isDevice
    ? `${String(entry.rdevMajor)},${String(entry.rdevMinor)}`
    : String(isBodyElsewhere ? 0 : contentBytes)
  return [modeText(entry), nlink, entry.uid, entry.gid, size].join(' ')
}

function factsIn(listing: string): string[] {
  const row = /^([-dlcbps][-rwxst]{9}) +(\d+) +(\d+) +(\d+) +(\d+(?:, *\d+)?) +[A-Z][a-z]{2} /gm
  return [...listing.matchAll(row)].map(([, mode, nlink, uid, gid, size]) =>
    [mode, nlink, uid, gid, size?.replace(/ /g, '')].join(' '),
  )
}

t.test('GNU cpio reads every type, mode, owner, size and device number', async (t) => {
  const listing = oracle(['cpio', '-itvn', '--quiet'], await packed(NASTY_TREE))
  t.same(
    factsIn(listing),
    NASTY_TREE.map((entry) => expectedFacts(entry, NASTY_TREE)),
  )
})

t.test('bsdtar reads every type, mode, owner and link count', async (t) => {
  // libarchive shows the later names of an inode as links, so sizes are compared elsewhere.
  const withoutSize = (facts: string): string => facts.replace(/ \S+$/, '')
  const listing = oracle(['bsdtar', '-tvf', '-', '--numeric-owner'], await packed(NASTY_TREE))
  t.same(
    factsIn(listing).map(withoutSize),
    NASTY_TREE.map((entry) => withoutSize(expectedFacts(entry, NASTY_TREE))),
  )
})

t.test('GNU cpio reads back every name', async (t) => {
  const listing = oracle(['cpio', '-it', '--quiet'], await packed(NASTY_TREE))
  const names = NASTY_TREE.map(({ path }) => (path === '' ? '.' : path))
  t.equal(listing, names.map((name) => `${name}\n`).join(''))
})

/** The nasty tree as this user can make it: own files, no devices, owner may always enter. */
const OWN_TREE = NASTY_TREE.filter(({ type }) => !type.endsWith('-device')).map((entry) => ({
  ...entry,
  uid: process.getuid?.() ?? 0,
  gid: process.getgid?.() ?? 0,
}))

function extracted(t: Tap, archive: Buffer, argv: readonly [string, ...string[]]): string {
  const directory = temporaryDirectory(t)
  oracle(argv, archive, directory)
  return directory
}

const EXTRACTORS: readonly (readonly [string, ...string[]])[] = [
  ['cpio', '-idm', '--quiet', '--no-absolute-filenames'],
  ['bsdtar', '-xpf', '-', '--numeric-owner'],
]

for (const extractor of EXTRACTORS) {
  t.test(`the tree that ${extractor[0]} extracts is the tree that was packed`, async (t) => {
    const directory = extracted(t, await packed(OWN_TREE), extractor)
    // Neither sets all of a directory that is there already, cpio no time of a symlink, bsdtar makes a file of a socket.
    const facts = (tree: readonly TreeEntry[]): unknown[] =>
      tree
        .filter(({ path }) => path !== '' && path !== 'socket')
        .map(({ path, type, mode, uid, gid, sizeBytes, linkTarget, mtimeSeconds }) => ({
          ...{ path, type, mode, uid, gid, sizeBytes, linkTarget },
          mtimeSeconds: type === 'symlink' ? 'any' : mtimeSeconds,
        }))
    t.same(facts(readTree(directory)), facts(OWN_TREE))
  })

  t.test(`${extractor[0]} extracts every body, and three names of one inode`, async (t) => {
    const directory = extracted(t, await packed(OWN_TREE), extractor)
    const tree = readTree(directory)
    t.equal(
      new Set(tree.filter(({ path }) => path.startsWith('links')).map(({ linkGroup }) => linkGroup)).size,
      1,
    )
    for (const { path, source } of OWN_TREE.filter(({ type }) => type === 'file')) {
      const hostPath = join(directory, path)
      chmodSync(hostPath, 0o600)
      t.ok(readFileSync(hostPath).equals(source as Uint8Array), path)
    }
  })
}

t.test('trap 7: the archive ends on a multiple of 512 bytes, whatever comes first', async (t) => {
  for (const sizeBytes of [0, 1, 401, 402, 403, 512, 5000]) {
    const archive = await packed([file('abc', 'x'.repeat(sizeBytes))])
    t.equal(archive.length % 512, 0, `a body of ${String(sizeBytes)}`)
    const reference = Math.ceil((116 + Math.ceil(sizeBytes / 4) * 4 + 124) / 512) * 512
    t.equal(archive.length, reference, 'no block too many')
  }
  t.equal((await packed([])).length, 512)
})

t.test('trap 7: two archives in a row are both read', async (t) => {
  const both = Buffer.concat([await packed([file('one', 'x'.repeat(401))]), await packed([file('two', 'x')])])
  // cpio reads a pipe in blocks of 512 bytes and leaves the rest to the next reader.
  const listing = oracle(['sh', '-c', 'exec 2>&1; cpio -it --quiet; cpio -it --quiet'], both)
  t.equal(listing, 'one\ntwo\n', 'and nothing is said about junk')
})

t.test('trap 6: memory holds about one body, however slow the sink is', async (t) => {
  const body = new Uint8Array(MIB_BYTES / 2)
  const tree = Array.from({ length: 40 }, (_, index) => file(`f${String(index)}`, body))
  let waitingBytes = 0
  const sink: Writable = new Writable({
    write(_chunk: Buffer, _encoding, done) {
      waitingBytes = Math.max(waitingBytes, sink.writableLength)
      setTimeout(done, 1)
    },
  })
  await packNewc(tree, sink, { epochSeconds: EPOCH_SECONDS })
  t.ok(waitingBytes < 2 * MIB_BYTES, `${String(waitingBytes)} bytes were waiting`)
})

t.test('trap 6: a large file is read no faster than the sink takes it', async (t) => {
  const source = join(temporaryDirectory(t), 'large')
  writeFileSync(source, Buffer.alloc(12 * MIB_BYTES))
  let waitingBytes = 0
  const sink: Writable = new Writable({
    write(_chunk: Buffer, _encoding, done) {
      waitingBytes = Math.max(waitingBytes, sink.writableLength)
      setTimeout(done, 5)
    },
  })
  await packNewc([fileOnDisk(source, 12 * MIB_BYTES)], sink, { epochSeconds: EPOCH_SECONDS })
  t.ok(waitingBytes < 3 * MIB_BYTES, `${String(waitingBytes)} bytes were waiting`)
})

t.test('packing twice gives the same bytes', async (t) => {
  t.ok((await packed(NASTY_TREE)).equals(await packed(NASTY_TREE)))
})

function plant(directory: string, names: readonly string[]): void {
  for (const name of names) {
    mkdirSync(join(directory, name))
    writeFileSync(join(directory, name, 'a file'), `in ${name}`)
    utimesSync(join(directory, name, 'a file'), 1, 1)
  }
  const [first, second] = [...names].sort()
  linkSync(join(directory, `${String(first)}/a file`), join(directory, `${String(second)}/link`))
  symlinkSync('a', join(directory, 'symlink'))
}

t.test('a tree made in another order gives the same bytes', async (t) => {
  const names = ['b', 'a', 'é', '漢', 'a b']
  const [here, there] = [temporaryDirectory(t), temporaryDirectory(t)]
  plant(here, names)
  plant(there, names.toReversed())
  t.ok((await packed(readTree(here))).equals(await packed(readTree(there))))
})

for (const [kind, sizeBytes] of [
  ['small', 1000],
  ['large', BIG_BYTES],
] as const) {
  const changed = { code: 'E_INPUT', message: 'file: changed while it was being packed' }

  t.test(`a ${kind} file on disk is packed whole`, async (t) => {
    const source = join(temporaryDirectory(t), 'file')
    const bytes = Buffer.alloc(sizeBytes, 'some text')
    writeFileSync(source, bytes)
    const archive = await packed([fileOnDisk(source, sizeBytes)])
    t.ok(archive.equals(await packed([{ ...fileOnDisk('', sizeBytes), source: bytes }])))
  })

  t.test(`a ${kind} file is opened once and read once`, async (t) => {
    // A pipe can be read only once: to open it again would wait for ever.
    const pipe = join(temporaryDirectory(t), 'pipe')
    execFileSync('mkfifo', [pipe])
    const writer = spawn('sh', ['-c', 'head -c "$1" /dev/zero >"$2"', 'sh', String(sizeBytes), pipe])
    const writerEnd = once(writer, 'exit')
    const archive = await packed([fileOnDisk(pipe, sizeBytes)])
    await writerEnd
    t.ok(archive.length > sizeBytes)
  })

  t.test(`a ${kind} file that grew is refused`, async (t) => {
    const source = join(temporaryDirectory(t), 'file')
    writeFileSync(source, Buffer.alloc(sizeBytes))
    appendFileSync(source, 'x')
    t.match(await packingFailure([fileOnDisk(source, sizeBytes)]), changed)
  })

  t.test(`a ${kind} file that shrank is refused`, async (t) => {
    const source = join(temporaryDirectory(t), 'file')
    writeFileSync(source, Buffer.alloc(sizeBytes))
    truncateSync(source, sizeBytes - 1)
    t.match(await packingFailure([fileOnDisk(source, sizeBytes)]), changed)
  })

  t.test(`a ${kind} file that vanished is refused`, async (t) => {
    const source = join(temporaryDirectory(t), 'file')
    t.match(await packingFailure([fileOnDisk(source, sizeBytes)]), changed)
  })

  t.test(`a ${kind} file that became a directory is refused`, async (t) => {
    t.match(await packingFailure([fileOnDisk(temporaryDirectory(t), sizeBytes)]), changed)
  })

  t.test(`a ${kind} file that may not be read is named`, async (t) => {
    const source = join(temporaryDirectory(t), 'file')
    writeFileSync(source, Buffer.alloc(sizeBytes), { mode: 0o000 })
    const isRoot = process.getuid?.() === 0
    // Root may read everything.
    if (isRoot) process.seteuid?.(65_534)
    const failure = await packingFailure([fileOnDisk(source, sizeBytes)])
    if (isRoot) process.seteuid?.(0)
    t.match(failure, { code: 'E_PERMISSION', message: 'file: cannot be read', cause: { code: 'EACCES' } })
  })
}

t.test('an empty file that grew is refused', async (t) => {
  const source = join(temporaryDirectory(t), 'file')
  writeFileSync(source, 'x')
  t.match(await packingFailure([fileOnDisk(source, 0)]), { code: 'E_INPUT' })
})

t.test('bytes of another length than the entry says are refused', async (t) => {
  t.match(await packingFailure([file('a', 'four', { sizeBytes: 5 })]), { code: 'E_INPUT' })
})

t.test('an error that is nobody’s fault here is passed on', async (t) => {
  const source = join(temporaryDirectory(t), 'x'.repeat(300))
  t.match(await packingFailure([fileOnDisk(source, 5)]), { code: 'ENAMETOOLONG' })
})

t.test('an entry that the format cannot carry is refused before anything is written', async (t) => {
  const { sink, bytes } = collector()
  t.match(await packingFailure([file('a', ''), file('b', '', { uid: -1 })], sink), { code: 'E_INPUT' })
  t.equal(bytes().length, 0)
  t.ok(sink.destroyed, 'whoever reads the sink is let go')
})

const LONG_TREE = Array.from({ length: 20 }, (_, index) =>
  file(`f${String(index)}`, new Uint8Array(MIB_BYTES)),
)

t.test('a full disk is reported', async (t) => {
  t.match(await packingFailure(LONG_TREE, createWriteStream('/dev/full')), { code: 'ENOSPC' })
})

t.test('a full disk is reported even when it shows at the very end', async (t) => {
  t.match(await packingFailure([], createWriteStream('/dev/full')), { code: 'ENOSPC' })
})

t.test('a compressor that dies is reported', async (t) => {
  const compressor = spawn('sh', ['-c', 'head -c 70000 >/dev/null; exit 3'])
  t.type(await packingFailure(LONG_TREE, compressor.stdin), Error)
})

t.test('a compressor that dies in the middle of a large file is reported', async (t) => {
  const source = join(temporaryDirectory(t), 'large')
  writeFileSync(source, Buffer.alloc(12 * MIB_BYTES))
  const compressor = spawn('head', ['-c', '2000000'], { stdio: ['pipe', 'ignore', 'inherit'] })
  t.type(await packingFailure([fileOnDisk(source, 12 * MIB_BYTES)], compressor.stdin), Error)
})

t.test('a sink that closes without a word is reported', async (t) => {
  const sink = new PassThrough()
  setTimeout(() => sink.destroy(), 20)
  t.match(await packingFailure(LONG_TREE, sink), { code: 'ERR_STREAM_PREMATURE_CLOSE' })
})

t.test('a sink that is closed from the start is reported', async (t) => {
  const sink = new PassThrough()
  sink.destroy()
  t.match(await packingFailure([], sink), { message: /the stream is closed/ })
})
