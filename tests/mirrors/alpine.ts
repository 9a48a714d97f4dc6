// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { createHash, createSign, generateKeyPairSync } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'

import { pack } from 'tar-stream'
import type { Pack } from 'tar-stream'

import { ARCHES } from '../../scripts/arch.ts'
import type { ArchName } from '../../scripts/arch.ts'
import { downloadDebs } from './debs.ts'
import { serve } from './server.ts'
import type { Mirror } from './server.ts'

/** A file of a package that a test makes. */
export interface MadeFile {
  readonly name: string
  readonly type?: 'file' | 'directory' | 'symlink' | 'link' | 'character-device'
  readonly content?: string | Buffer
  readonly linkname?: string
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly uname?: string
  readonly gname?: string
  readonly mtimeSeconds?: number
  /** Extended attributes by their full names. */
  readonly xattrs?: Readonly<Record<string, Buffer>>
  readonly pax?: Readonly<Record<string, string>>
}

/** A package that a test makes. Lists are written as apk writes them. */
export interface MadePackage {
  readonly name: string
  readonly version?: string
  readonly origin?: string
  readonly depends?: readonly string[]
  readonly provides?: readonly string[]
  readonly installIf?: readonly string[]
  readonly priority?: number
  readonly replaces?: readonly string[]
  readonly replacesPriority?: number
  readonly triggers?: readonly string[]
  readonly scripts?: Readonly<Record<string, string>>
  readonly files?: readonly MadeFile[]
}

export interface TestKey {
  /** File name that signatures call it by. */
  readonly name: string
  readonly private: KeyObject
  readonly pem: string
}

export function makeKey(name: string): TestKey {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  return { name, private: privateKey, pem: publicKey.export({ type: 'spki', format: 'pem' }).toString() }
}

const BUILT = 1_700_000_000

/** A tar archive as abuild makes it, with the digest of each file; without its end mark where another follows. */
export async function makeTar(files: readonly MadeFile[], isLast: boolean): Promise<Buffer> {
  const parts = await Promise.all(files.map(tarEntry))
  return Buffer.concat(isLast ? [...parts, Buffer.alloc(1024)] : parts)
}

/** An entry, after a pax header of our own: tar-stream writes texts only, and attributes are bytes. */
async function tarEntry(file: MadeFile): Promise<Buffer> {
  const { name, type = 'file', content = '', linkname, mode, uid = 0, gid = 0 } = file
  const { uname = '', gname = '', mtimeSeconds = BUILT } = file
  const hashed = type === 'file' ? content : type === 'symlink' ? (linkname ?? '') : undefined
  const records: [string, string | Buffer][] = Object.entries(file.pax ?? {})
  for (const [key, value] of Object.entries(file.xattrs ?? {})) records.push([`SCHILY.xattr.${key}`, value])
  if (hashed !== undefined) {
    records.push(['APK-TOOLS.checksum.SHA1', createHash('sha1').update(hashed).digest('hex')])
  }
  const pax = Buffer.concat(records.map(([key, value]) => paxRecord(key, value)))
  const header = {
    name,
    type,
    mode: mode ?? (type === 'directory' ? 0o755 : type === 'symlink' ? 0o777 : 0o644),
    uid,
    gid,
    uname,
    gname,
    mtime: new Date(mtimeSeconds * 1000),
    ...(linkname === undefined ? {} : { linkname }),
  }
  const entry = await packed(header, type === 'file' ? content : '')
  if (pax.length === 0) return entry
  return Buffer.concat([asPaxHeader(await packed({ name: 'pax', mtime: new Date(0) }, pax)), entry])
}

/** Make a file's entry the pax header of the next: other kind, other sum of the header's bytes. */
function asPaxHeader(entry: Buffer): Buffer {
  const [file = 0, header = 0] = Buffer.from('0x')
  const sum = Number.parseInt(entry.toString('latin1', 148, 154), 8) + header - file
  entry.write('x', 156)
  entry.write(sum.toString(8).padStart(6, '0'), 148)
  return entry
}

async function packed(header: Parameters<Pack['entry']>[0], content: string | Buffer): Promise<Buffer> {
  const archive = pack()
  archive.entry(header, content)
  archive.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of archive) chunks.push(chunk as Buffer)
  const whole = Buffer.concat(chunks)
  return whole.subarray(0, whole.length - 1024)
}

/** `length key=value` and a line feed, the length that of all of it. */
function paxRecord(key: string, value: string | Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from('\n')])
  let length = rest.length
  while (String(length).length + rest.length > length) length = String(length).length + rest.length
  return Buffer.concat([Buffer.from(String(length)), rest])
}

export type SignatureKind = 'RSA' | 'RSA256'

async function signed(content: Buffer, key: TestKey | undefined, kind: SignatureKind): Promise<Buffer> {
  if (key === undefined) return content
  const signature = createSign(kind === 'RSA' ? 'RSA-SHA1' : 'RSA-SHA256')
    .update(content)
    .sign(key.private)
  const archive = await makeTar([{ name: `.SIGN.${kind}.${key.name}`, content: signature }], false)
  return Buffer.concat([gzipSync(archive), content])
}

export interface MadeApk {
  readonly file: Buffer
  /** Paragraph of the index. */
  readonly index: string
}

/** A package as abuild makes it: signature, control and data, each a gzip stream of its own. */
export async function makeApk(
  made: MadePackage,
  key: TestKey | undefined,
  { arch = 'x86_64', kind = 'RSA' }: { readonly arch?: string; readonly kind?: SignatureKind } = {},
): Promise<MadeApk> {
  const { name, version = '1.0-r0', depends = [], provides = [], installIf = [] } = made
  const files = withFolders(made.files ?? [])
  const data = gzipSync(await makeTar(files, true))
  const info = [
    `pkgname = ${name}`,
    `pkgver = ${version}`,
    `arch = ${arch}`,
    `origin = ${made.origin ?? name}`,
    ...depends.map((text) => `depend = ${text}`),
    ...provides.map((text) => `provides = ${text}`),
    ...(made.replaces ?? []).map((text) => `replaces = ${text}`),
    ...(made.replacesPriority === undefined ? [] : [`replaces_priority = ${String(made.replacesPriority)}`]),
    ...(made.triggers === undefined ? [] : [`triggers = ${made.triggers.join(' ')}`]),
    `datahash = ${createHash('sha256').update(data).digest('hex')}`,
    '',
  ]
  const scripts = Object.entries(made.scripts ?? {}).map(([moment, text]) => ({
    name: `.${moment}`,
    content: text,
    mode: 0o755,
  }))
  const control = gzipSync(await makeTar([{ name: '.PKGINFO', content: info.join('\n') }, ...scripts], false))
  const file = Buffer.concat([await signed(control, key, kind), data])
  const row = (letter: string, words: readonly string[]): string[] =>
    words.length === 0 ? [] : [`${letter}:${words.join(' ')}`]
  const index = [
    `C:Q1${createHash('sha1').update(control).digest('base64')}`,
    `P:${name}`,
    `V:${version}`,
    `A:${arch}`,
    `S:${String(file.length)}`,
    // A package of no size is one that apk does not fetch.
    `I:${String(4096 + files.reduce((sum, { content = '' }) => sum + content.length, 0))}`,
    `T:${name} of the tests`,
    'L:none',
    `o:${made.origin ?? name}`,
    `t:${String(BUILT)}`,
    ...row('D', depends),
    ...row('p', provides),
    ...row('i', installIf),
    ...(made.priority === undefined ? [] : [`k:${String(made.priority)}`]),
    '',
  ]
  return { file, index: index.join('\n') }
}

/** The files, after the folders they are in: apk takes none without. */
function withFolders(files: readonly MadeFile[]): MadeFile[] {
  const there = new Set(files.map(({ name }) => name))
  return files.flatMap((file) => {
    const parts = file.name.split('/').slice(0, -1)
    const folders = parts.map((_, index) => parts.slice(0, index + 1).join('/'))
    // Names that are made to lead astray are left as they are.
    const missing = folders.filter((name) => !/^$|^\.\.?(\/|$)|\/\.\./.test(name) && !there.has(name))
    for (const name of missing) there.add(name)
    return [...missing.map((name) => ({ name, type: 'directory' as const })), file]
  })
}

/** A signed index of packages. */
export async function makeIndex(
  apks: readonly MadeApk[],
  key: TestKey | undefined,
  kind: SignatureKind = 'RSA',
): Promise<Buffer> {
  const content = apks.map(({ index }) => index).join('\n')
  const archive = await makeTar(
    [
      { name: 'DESCRIPTION', content: 'tests' },
      { name: 'APKINDEX', content },
    ],
    true,
  )
  return signed(gzipSync(archive), key, kind)
}

export interface Repository extends Mirror {
  /** Folder with the public key, for REPO_KEYRING. */
  readonly keyring: string
  /** What is served, by path below the mirror. */
  readonly files: Map<string, Buffer>
  /** Publish these packages in main of a release. */
  readonly publish: (packages: readonly MadePackage[], options?: PublishOptions) => Promise<void>
}

export interface PublishOptions {
  readonly arch?: string
  readonly kind?: SignatureKind
  /** Key of the index, of the packages, or none; default: the repository's. */
  readonly indexKey?: TestKey | undefined
  readonly packageKey?: TestKey | undefined
}

/** A repository laid out as Alpine's, on 127.0.0.1. */
export async function startRepository(
  keyName: string = 'test@example.invalid-1.rsa.pub',
  address?: string,
): Promise<Repository> {
  const folder = mkdtempSync(join(tmpdir(), 'osbuilder-alpine-'))
  const key = makeKey(keyName)
  const keyring = join(folder, 'keys')
  mkdirSync(keyring)
  writeFileSync(join(keyring, key.name), key.pem)
  const files = new Map<string, Buffer>()
  const mirror = await serve('alpine', (path) => Promise.resolve(files.get(path)), address)
  return {
    ...mirror,
    keyring,
    files,
    publish: async (packages, options = {}) => {
      const { arch = 'x86_64', kind = 'RSA' } = options
      const packageKey = 'packageKey' in options ? options.packageKey : key
      const indexKey = 'indexKey' in options ? options.indexKey : key
      const apks = await Promise.all(packages.map((made) => makeApk(made, packageKey, { arch, kind })))
      for (const [index, { file }] of apks.entries()) {
        const { name = '', version = '1.0-r0' } = packages[index] ?? {}
        files.set(`v3.22/main/${arch}/${name}-${version}.apk`, file)
      }
      files.set(`v3.22/main/${arch}/APKINDEX.tar.gz`, await makeIndex(apks, indexKey, kind))
    },
    close: async () => {
      await mirror.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

const OS_RELEASE = 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.22.0\nPRETTY_NAME="Alpine Linux v3.22"\n'

/** A small Alpine that boots: a static busybox of Debian's in packages like Alpine's own. */
export async function smallAlpine(arch: ArchName = 'x86_64'): Promise<MadePackage[]> {
  const busybox = await debianBusybox(ARCHES[arch].debian)
  const folders = [
    'bin',
    'dev',
    'etc',
    'lib',
    'proc',
    'root',
    'run',
    'sbin',
    'sys',
    'usr',
    'usr/bin',
    'usr/sbin',
    'var',
  ]
  return [
    { name: 'alpine-base', depends: ['alpine-baselayout', 'busybox', 'alpine-keys'] },
    {
      name: 'alpine-baselayout',
      version: '3.7.0-r0',
      depends: ['alpine-baselayout-data=3.7.0-r0', '/bin/sh'],
      files: [
        ...folders.map((name) => ({ name, type: 'directory' as const })),
        { name: 'tmp', type: 'directory', mode: 0o1777 },
        { name: 'etc/os-release', content: OS_RELEASE },
      ],
      scripts: {
        'pre-install': '#!/bin/sh\naddgroup -S -g 42 shadow 2>/dev/null\nexit 0\n',
        'post-install': '#!/bin/sh\nchown 0:42 /etc/shadow\nchmod 640 /etc/shadow\nexit 0\n',
      },
    },
    {
      name: 'alpine-baselayout-data',
      version: '3.7.0-r0',
      files: [
        { name: 'etc', type: 'directory' },
        { name: 'etc/passwd', content: 'root:x:0:0:root:/root:/bin/sh\n' },
        { name: 'etc/group', content: 'root:x:0:root\nshadow:x:42:\n' },
        { name: 'etc/shadow', content: 'root:*::0:::::\n', mode: 0o640 },
      ],
    },
    { name: 'alpine-keys', files: [{ name: 'usr/share/apk/keys/none', content: '' }] },
    {
      name: 'busybox',
      version: '1.37.0-r18',
      provides: ['cmd:busybox=1.37.0-r18'],
      triggers: ['/bin', '/usr/bin', '/sbin', '/usr/sbin', '/lib/modules/*'],
      files: [
        { name: 'bin', type: 'directory' },
        { name: 'bin/busybox', content: busybox, mode: 0o755 },
        { name: 'sbin', type: 'directory' },
        { name: 'usr', type: 'directory' },
        { name: 'usr/bin', type: 'directory' },
        { name: 'usr/sbin', type: 'directory' },
      ],
      scripts: {
        'post-install': '#!/bin/busybox sh\n/bin/busybox --install -s\n',
        trigger: '#!/bin/busybox sh\necho "$@" > /etc/trigger-was-told\n',
      },
    },
    {
      name: 'busybox-binsh',
      version: '1.37.0-r18',
      depends: ['busybox=1.37.0-r18'],
      provides: ['/bin/sh', 'cmd:sh=1.37.0-r18'],
      priority: 100,
      files: [
        { name: 'bin', type: 'directory' },
        { name: 'bin/sh', type: 'symlink', linkname: '/bin/busybox' },
      ],
    },
    {
      name: 'iptables',
      version: '1.8.11-r1',
      depends: ['so:libmnl.so.0'],
      files: [{ name: 'usr/sbin/iptables', content: '#!/bin/sh\n', mode: 0o755 }],
    },
    {
      name: 'libmnl',
      provides: ['so:libmnl.so.0=0.2.0'],
      files: [
        { name: 'usr/lib/libmnl.so.0.2.0', content: 'none' },
        { name: 'usr/lib/libmnl.so.0', type: 'symlink', linkname: 'libmnl.so.0.2.0' },
      ],
    },
    { name: 'libseccomp', files: [{ name: 'usr/lib/libseccomp.so.2', content: 'none' }] },
    {
      name: 'docs',
      files: [{ name: 'usr/share/docs', content: '' }],
    },
    {
      name: 'iptables-doc',
      installIf: ['docs', 'iptables=1.8.11-r1'],
      files: [{ name: 'usr/share/man/iptables.8', content: '' }],
    },
  ]
}

async function debianBusybox(debianArch: string): Promise<Buffer> {
  const folder = mkdtempSync(join(tmpdir(), 'osbuilder-busybox-'))
  try {
    await downloadDebs(folder, join(folder, 'pool'), ['busybox-static'], debianArch)
    const deb = readdirSync(join(folder, 'pool')).find((name) => name.startsWith('busybox-static_')) ?? ''
    execFileSync('dpkg-deb', ['--extract', join(folder, 'pool', deb), join(folder, 'tree')])
    return readFileSync(join(folder, 'tree/bin/busybox'))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
