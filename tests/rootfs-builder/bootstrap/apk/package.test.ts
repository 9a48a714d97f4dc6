// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { createPublicKey } from 'node:crypto'
import { existsSync, lstatSync, mkdirSync, readFileSync, readlinkSync, symlinkSync } from 'node:fs'
import { join, relative } from 'node:path'

import t from 'tap'

import { gzipMembers } from '../../../../rootfs-builder/bootstrap/apk/archive.ts'
import { writeXattrs } from '../../../../rootfs-builder/bootstrap/apk/bootstrap.ts'
import { parseIndex } from '../../../../rootfs-builder/bootstrap/apk/index.ts'
import { newInstallation, unpackPackage } from '../../../../rootfs-builder/bootstrap/apk/install.ts'
import { openPackage } from '../../../../rootfs-builder/bootstrap/apk/package.ts'
import type { OpenPackage } from '../../../../rootfs-builder/bootstrap/apk/package.ts'
import { BuildError } from '../../../../scripts/errors.ts'
import { makeApk, makeKey } from '../../../mirrors/alpine.ts'
import type { MadePackage } from '../../../mirrors/alpine.ts'
import { oneByteChanged } from '../../../mirrors/server.ts'

const KEY = makeKey('me@example.invalid-1.rsa.pub')
const KEYS = new Map([[KEY.name, createPublicKey(KEY.pem)]])
const OWNER = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }

async function opened(
  made: MadePackage,
  change: (file: Buffer) => Buffer = (file) => file,
): Promise<OpenPackage> {
  const files = (made.files ?? []).map((file) => ({ ...OWNER, ...file }))
  const { file, index } = await makeApk({ ...made, files }, KEY)
  const [item] = parseIndex(index, { url: 'u' })
  if (item === undefined) throw new Error('no index')
  return openPackage(item, change(file), KEYS)
}

const SMALL: MadePackage = { name: 'a', files: [{ name: 'etc/a', content: 'content' }] }

t.test('a package is opened when all three parts are the ones that were signed', async (t) => {
  const open = await opened({
    ...SMALL,
    scripts: { 'post-install': '#!/bin/sh\n' },
    triggers: ['/bin'],
    replaces: ['b<2'],
  })
  t.equal(open.entries.at(-1)?.body.toString(), 'content')
  t.strictSame([...open.facts.scripts.keys()], ['post-install'])
  t.strictSame(open.facts.triggers, ['/bin'])
  t.equal(open.facts.replaces[0]?.name, 'b')
  const { file, index } = await makeApk(SMALL, KEY, { kind: 'RSA256' })
  const [item] = parseIndex(index, { url: 'u' })
  if (item !== undefined) t.ok(await openPackage(item, file, KEYS), 'signed with sha256')
})

t.test('one changed byte anywhere stops it', async (t) => {
  const { file } = await makeApk(SMALL, KEY)
  const members = await gzipMembers(file, 'x')
  let start = 0
  for (const [part, { compressed }] of members.entries()) {
    const at = start
    start += compressed.length
    await t.rejects(
      opened(SMALL, (whole) =>
        Buffer.concat([
          whole.subarray(0, at),
          oneByteChanged(whole.subarray(at, at + compressed.length)),
          whole.subarray(at + compressed.length),
        ]),
      ),
      { code: 'E_SIGNATURE' },
      `part ${String(part)}`,
    )
  }
  await t.rejects(
    opened(SMALL, (whole) => whole.subarray(0, whole.length - 20)),
    { code: 'E_SIGNATURE' },
  )
})

t.test('a package of another version, unsigned or signed by a stranger is refused', async (t) => {
  const { index } = await makeApk(SMALL, KEY)
  const [item] = parseIndex(index, { url: 'u' })
  if (item === undefined) throw new Error('no index')
  const other = await makeApk({ ...SMALL, version: '2-r0' }, KEY)
  await t.rejects(openPackage(item, other.file, KEYS), /is not the package that the index names/)
  const unsigned = await makeApk(SMALL, undefined)
  await t.rejects(openPackage(item, unsigned.file, KEYS), { code: 'E_SIGNATURE' })
  const stranger = makeKey('stranger-1.rsa.pub')
  const strange = await makeApk(SMALL, stranger)
  await t.rejects(openPackage(item, strange.file, KEYS), {
    code: 'E_SIGNATURE',
    because: [/signed by stranger-1.rsa.pub/, /known keys: me@example/],
  })
  const impostor = await makeApk(SMALL, { ...stranger, name: KEY.name })
  await t.rejects(openPackage(item, impostor.file, KEYS), {
    code: 'E_SIGNATURE',
    because: [/does not match its signature/, /known keys/],
  })
})

t.test('the format of apk-tools 3 is refused by its name', async (t) => {
  await t.rejects(gzipMembers(Buffer.from('ADBd....'), 'x.apk'), /x.apk: is in the format of apk-tools 3/)
})

t.test('files come with their modes, links, times and owners', async (t) => {
  const root = t.testdir()
  const installation = newInstallation({ root })
  const made: MadePackage = {
    name: 'a',
    files: [
      { name: 'bin', type: 'directory', mode: 0o711 },
      { name: 'bin/one', content: 'one', mode: 0o4755 },
      { name: 'bin/two', type: 'link', linkname: 'bin/one' },
      { name: 'bin/three', type: 'symlink', linkname: '/bin/one' },
      { name: 'dev/null', type: 'character-device' },
    ],
  }
  unpackPackage(installation, await opened(made))
  t.equal(lstatSync(join(root, 'bin')).mode & 0o7777, 0o711)
  t.equal(lstatSync(join(root, 'bin/one')).mode & 0o7777, 0o4755)
  t.equal(lstatSync(join(root, 'bin/one')).ino, lstatSync(join(root, 'bin/two')).ino)
  t.equal(readlinkSync(join(root, 'bin/three')), '/bin/one')
  t.equal(lstatSync(join(root, 'bin')).mtimeMs, 1_700_000_000_000)
  t.notOk(existsSync(join(root, 'dev/null')), 'device nodes are added by the packers')
})

t.test('no path leaves the tree', async (t) => {
  const folder = t.testdir({ outside: { precious: 'x' }, tree: {} })
  const root = join(folder, 'tree')
  const evil = (files: MadePackage['files']): Promise<OpenPackage> =>
    opened({ name: 'evil', files: files ?? [] })
  for (const name of ['../outside/new', '/etc/../../outside/new', 'a/../../outside/new', '/outside']) {
    const open = await evil([{ name, content: 'evil' }])
    t.throws(
      () => {
        unpackPackage(newInstallation({ root }), open)
      },
      /would lie outside of the guest/,
      name,
    )
  }
  const link = await evil([{ name: 'b', type: 'link', linkname: '../outside/precious' }])
  t.throws(() => {
    unpackPackage(newInstallation({ root }), link)
  }, /outside of the guest/)
  const through = await evil([
    { name: 'way', type: 'symlink', linkname: join(folder, 'outside') },
    { name: 'way/new', content: 'evil' },
    { name: 'up', type: 'symlink', linkname: '../../../../../..' },
    { name: 'up/precious', content: 'evil' },
  ])
  unpackPackage(newInstallation({ root }), through)
  t.notOk(existsSync(join(folder, 'outside/new')), 'an absolute link starts at the root of the guest')
  t.equal(readFileSync(join(folder, 'outside/precious'), 'utf8'), 'x')
  symlinkSync(join(folder, 'outside/precious'), join(root, 'file'))
  unpackPackage(newInstallation({ root }), await evil([{ name: 'file', content: 'evil' }]))
  t.equal(
    readFileSync(join(folder, 'outside/precious'), 'utf8'),
    'x',
    'a link is replaced, not written through',
  )
})

t.test('two packages with one file are refused, unless one replaces the other', async (t) => {
  const file = (content: string): MadePackage['files'] => [{ name: 'etc/x', content }]
  const a = await opened({ name: 'a', files: file('a') ?? [] })
  const b = await opened({ name: 'b', files: file('b') ?? [] })
  const c = await opened({ name: 'c', files: file('c') ?? [], replaces: ['a'] })
  const content = (root: string): string => readFileSync(join(root, 'etc/x'), 'utf8')
  const laid = (name: string, ...packages: OpenPackage[]): string => {
    const root = join(t.testdirName, name)
    mkdirSync(root, { recursive: true })
    const installation = newInstallation({ root })
    for (const open of packages) unpackPackage(installation, open)
    return content(root)
  }
  t.testdir()
  t.throws(() => laid('ab', a, b), /b and a both have the file \/etc\/x/)
  t.equal(laid('ac', a, c), 'c')
  t.equal(laid('ca', c, a), 'c', 'whichever comes first')
})

/** What is said when the packages are unpacked one after the other into a new tree. */
async function refusalOf(root: string, ...packages: MadePackage[]): Promise<string> {
  const installation = newInstallation({ root })
  try {
    for (const made of packages) unpackPackage(installation, await opened(made))
  } catch (error) {
    if (error instanceof BuildError) return `${error.code} ${error.message}`
    throw error
  }
  return 'nothing was refused'
}

t.test(
  'names that contradict the tree, or are no plain names, are refused as the faults of a package',
  async (t) => {
    const root = (name: string): string => {
      const folder = join(t.testdirName, name)
      mkdirSync(folder, { recursive: true })
      return folder
    }
    t.testdir()
    const one = (...files: MadePackage['files'] & object): MadePackage => ({ name: 'evil', files })
    const file = { name: 'etc/x', content: 'x' }
    t.match(
      await refusalOf(root('a'), one(file, { name: 'etc/x/y', content: '' })),
      /E_INPUT.* is a file, not a folder/,
    )
    t.match(
      await refusalOf(root('b'), one(file, { name: 'etc', content: '' })),
      /\/etc is a folder of another/,
    )
    t.match(
      await refusalOf(root('c'), one(file, { name: 'etc/x', type: 'directory' })),
      /E_INPUT.*\/etc\/x is a file already/,
    )
    t.match(
      await refusalOf(root('d'), one({ name: 'x\nP:forged', content: '' })),
      /E_INPUT.*has no plain name/,
    )
    t.match(await refusalOf(root('e'), one({ name: 'x'.repeat(300), content: '' })), /E_INPUT.*ENAMETOOLONG/)
    t.match(
      await refusalOf(root('f'), one({ name: 'x', type: 'link', linkname: 'y' })),
      /of no file of its own/,
    )
    t.match(
      await refusalOf(
        root('g'),
        { name: 'other', files: [file] },
        one({ name: 'x', type: 'link', linkname: 'etc/x' }),
      ),
      /of no file of its own/,
      "another package's file is not shared by a hard link",
    )
    t.match(
      await refusalOf(
        root('h'),
        one({ name: 'l', type: 'symlink', linkname: 'l' }, { name: 'l/x', content: '' }),
      ),
      /loop of links/,
    )
    t.match(
      await refusalOf(root('i'), one({ name: 'etc/tty', type: 'character-device' })),
      /outside of \/dev/,
    )
  },
)

t.test('two packages with one file are told apart by where it lies, not by how they call it', async (t) => {
  const root = t.testdir({ usr: { lib: {} } })
  symlinkSync('usr/lib', join(root, 'lib'))
  const a = { name: 'a', files: [{ name: 'lib/x', content: 'a' }] }
  const b = { name: 'b', files: [{ name: 'usr/lib/x', content: 'b' }] }
  t.match(await refusalOf(root, a, b), /b and a both have the file \/usr\/lib\/x/)
  const origin = 'source'
  t.match(
    await refusalOf(root, { ...a, origin }, { ...b, origin }),
    /nothing/,
    'one source may have it twice',
  )
})

t.test('a file that was replaced is no longer in the list of the package that had it', async (t) => {
  const installation = newInstallation({ root: t.testdir() })
  unpackPackage(
    installation,
    await opened({ name: 'a', files: [{ name: 'x', content: 'a' }, { name: 'y' }] }),
  )
  unpackPackage(
    installation,
    await opened({ name: 'b', files: [{ name: 'x', content: 'b' }], replaces: ['a'] }),
  )
  const pathsOf = (name: string): string[] => (installation.files.get(name) ?? []).map(({ path }) => path)
  t.strictSame([pathsOf('a'), pathsOf('b')], [['y'], ['x']])
})

const isRoot = process.getuid?.() === 0

t.test(
  'owners are those of the guest by their names, and numbers where it has no such name',
  { skip: !isRoot && 'only root gives files away' },
  async (t) => {
    const root = t.testdir()
    const installation = newInstallation({ root })
    const named = { uname: 'chrony', gname: 'chrony', uid: 100, gid: 101 }
    const accounts = [
      { name: 'etc/passwd', content: 'root:x:0:0::/:\nchrony:x:123:124::/:\n' },
      { name: 'etc/group', content: 'chrony:x:124:\n' },
    ]
    unpackPackage(
      installation,
      await opened({ name: 'early', files: [{ name: 'early', content: '', ...named }] }),
    )
    unpackPackage(installation, await opened({ name: 'base', files: accounts }))
    unpackPackage(
      installation,
      await opened({ name: 'late', files: [{ name: 'late', content: '', ...named }] }),
    )
    const ownerOf = (name: string): number[] => [
      lstatSync(join(root, name)).uid,
      lstatSync(join(root, name)).gid,
    ]
    t.strictSame(ownerOf('early'), [100, 101])
    t.strictSame(ownerOf('late'), [123, 124])
    t.match(installation.files.get('late'), [{ uid: 123, gid: 124 }], 'and so in the database')
  },
)

t.test(
  'a shared folder has the lowest owner and no right that a package denies',
  { skip: !isRoot && 'only root gives files away' },
  async (t) => {
    const root = t.testdir()
    const installation = newInstallation({ root })
    const folder = (mode: number, uid: number): MadePackage => ({
      name: `p${String(mode)}${String(uid)}`,
      files: [{ name: 'srv', type: 'directory', mode, uid, gid: 0 }],
    })
    for (const made of [folder(0o777, 5), folder(0o1775, 0), folder(0o757, 0), folder(0o777, 3)]) {
      unpackPackage(installation, await opened(made))
    }
    t.equal(lstatSync(join(root, 'srv')).mode & 0o7777, 0o755)
    t.equal(lstatSync(join(root, 'srv')).uid, 0)
  },
)

t.test(
  'extended attributes keep their bytes, and no link leads them out of the tree',
  { skip: !isRoot && 'only root sets them' },
  async (t) => {
    const folder = t.testdir({ outside: { x: '' }, tree: {} })
    const root = join(folder, 'tree')
    // cap_sys_nice: a value that is no UTF-8.
    const capability = Buffer.from('0100000200008000000000000000000000000000', 'hex')
    const xattrs = { 'security.capability': capability, 'user.text': Buffer.from('a=b\n') }
    const open = await opened({
      name: 'a',
      files: [
        { name: 'bin', type: 'directory' },
        { name: 'bin/nice', content: 'x', mode: 0o755, xattrs },
        { name: 'out', type: 'symlink', linkname: join(folder, 'outside') },
        { name: 'out/x', content: 'y', xattrs },
        { name: 'bin/odd\\name', content: 'z', xattrs },
      ],
    })
    const installation = newInstallation({ root })
    unpackPackage(installation, open)
    await writeXattrs(installation.files.get('a') ?? [])
    const read = (path: string): string =>
      execFileSync('getfattr', ['--absolute-names', '--dump', '--match=-', '--encoding=hex', path], {
        encoding: 'utf8',
      })
    for (const path of ['bin/nice', 'bin/odd\\name', relative('/', join(folder, 'outside/x'))]) {
      const said = read(join(root, path))
      t.match(said, `security.capability=0x${capability.toString('hex')}`, path)
      t.match(said, 'user.text=0x613d620a', path)
    }
    t.notMatch(read(join(folder, 'outside/x')), 'capability')
  },
)

t.test(
  'an attribute whose name holds lines of its own is refused, and gives no file of the host one',
  async (t) => {
    const folder = t.testdir({ outside: '', tree: {} })
    const outside = join(folder, 'outside')
    const evil = `\n# file: ${outside}\nuser.evil`
    const open = await opened({
      name: 'a',
      files: [{ name: 'x', content: 'x', xattrs: { [evil]: Buffer.from('y') } }],
    })
    const installation = newInstallation({ root: join(folder, 'tree') })
    await t.rejects(
      async () => {
        unpackPackage(installation, open)
        await writeXattrs(installation.files.get('a') ?? [])
      },
      { code: 'E_INPUT', message: /a-1.0-r0: \/x has an attribute of no plain name/ },
    )
    const said = execFileSync('getfattr', ['--absolute-names', '--dump', outside], { encoding: 'utf8' })
    t.notMatch(said, 'evil')
  },
)
