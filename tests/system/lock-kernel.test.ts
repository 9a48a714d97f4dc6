// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

import { sha256 } from '../../scripts/digest.ts'
import type { Lock } from '../../scripts/package-lock/package-lock.ts'
import { startDebian } from '../mirrors/archive.ts'
import { serveFiles } from '../mirrors/files.ts'
import { makeAsync } from './user.ts'
import type { Ended } from './user.ts'

t.setTimeout(5 * 60 * 1000)

type Variables = Readonly<Record<string, string>>

/** Sources of a kernel, as far as they are looked at. */
const SOURCES = {
  Makefile: 'VERSION = 9\nPATCHLEVEL = 8\nSUBLEVEL = 7\nEXTRAVERSION =\n',
  Kconfig: '',
  'arch/keep': '',
  'init/main.c': 'old\n',
}

function writeSources(folder: string, word: string): void {
  for (const [path, content] of Object.entries(SOURCES)) {
    mkdirSync(join(folder, path, '..'), { recursive: true })
    writeFileSync(join(folder, path), path === 'init/main.c' ? `${word}\n` : content)
  }
}

/** A folder of the test's, and what is made in it: each with an empty cache, so that nobody finds the files of another. */
function scratchOf(t: Test): { folder: string; fresh: () => string } {
  const folder = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  let count = 0
  return { folder, fresh: () => join(folder, `w${String((count += 1))}`) }
}

function wordIn(workdir: string): string {
  return readFileSync(join(workdir, 'linux/init/main.c'), 'utf8').trim()
}

function lockOf(file: string): Lock {
  return JSON.parse(readFileSync(file, 'utf8')) as Lock
}

/** Lock the sources, let the world move on, and have the old ones again: from where they were, and from VENDOR_DIR. */
async function keepsSources(
  t: Test,
  settings: Variables,
  moveOn: () => void,
): Promise<{ readonly said: string; readonly offline: (more?: Variables) => Promise<Ended> }> {
  const { folder, fresh } = scratchOf(t)
  const files = { LOCK_FILE: join(folder, 'kernel.lock'), VENDOR_DIR: join(folder, 'vendor') }
  const all = { ...settings, ...files, TARGET: 'kernel', REFRESH: 'always' }
  const first = fresh()
  const locked = await makeAsync('lock', { ...all, WORKDIR: first })
  t.equal(locked.status, 0, locked.said)
  t.match(locked.stdout, /LOCK +kernel .*written to kernel.lock/)
  const vendored = await makeAsync('vendor', { ...all, WORKDIR: first })
  t.equal(vendored.status, 0, vendored.said)
  t.match((await makeAsync('lock', { ...all, WORKDIR: first })).said, 'locked already')
  moveOn()
  const second = fresh()
  const later = await makeAsync('kernel-src', { ...all, WORKDIR: second, VENDOR_DIR: join(folder, 'none') })
  t.equal(later.status, 0, later.said)
  t.equal(wordIn(second), 'old')
  const third = fresh()
  const offline = await makeAsync('kernel-src', { ...all, WORKDIR: third, OFFLINE: 'yes' })
  t.equal(offline.status, 0, offline.said)
  t.equal(wordIn(third), 'old')
  const shown = await makeAsync('lock-update', { ...all, WORKDIR: first })
  t.equal(shown.status, 0, shown.said)
  const unlocked = fresh()
  await makeAsync('kernel-src', { ...all, WORKDIR: unlocked, LOCK_FILE: '/dev/null' })
  t.equal(wordIn(unlocked), 'new', 'without a lock it is the new one')
  return {
    said: shown.stdout,
    offline: (more = {}) => makeAsync('kernel-src', { ...all, WORKDIR: fresh(), OFFLINE: 'yes', ...more }),
  }
}

t.test('git: the commit of the lock is taken, wherever its tag or branch is now', async (t) => {
  const { folder } = scratchOf(t)
  const repo = join(folder, 'repo')
  const git = (...argv: readonly string[]): string =>
    execFileSync('git', ['-C', repo, '-c', 'user.name=a', '-c', 'user.email=a@b', ...argv]).toString()
  const commit = (word: string): void => {
    writeSources(repo, word)
    git('add', '.')
    git('commit', '--quiet', '-m', word)
  }
  execFileSync('git', ['init', '--quiet', '--initial-branch=main', repo])
  git('config', 'uploadpack.allowAnySHA1InWant', 'true')
  commit('old')
  const settings = { KERNEL_SOURCE: 'git', KERNEL_REPO: `file://${repo}`, KERNEL_TAG: 'main' }
  const { said, offline } = await keepsSources(t, settings, () => {
    commit('new')
  })
  t.match(said, /LOCK +main of file:.* → main of file:/)
  const other = await offline({ KERNEL_TAG: 'stable' })
  t.match(other.said, /kernel.lock: does not cover the kernel .*KERNEL_TAG=stable[^]*make lock TARGET=kernel/)
})

t.test("distro: the package of the lock is taken from Debian's archive", async (t) => {
  const debian = await startDebian(true)
  t.teardown(() => debian.close())
  const { folder } = scratchOf(t)
  const add = (version: string, word: string): void => {
    const tree = join(folder, word)
    writeSources(join(tree, 'linux-source-9.8'), word)
    const files = join(folder, `${word}-package`)
    mkdirSync(join(files, 'usr/src'), { recursive: true })
    const tarball = join(files, 'usr/src/linux-source-9.8.tar.xz')
    execFileSync('tar', ['-cJf', tarball, '-C', tree, 'linux-source-9.8'])
    debian.add({ name: 'linux-source', version, depends: 'linux-source-9.8' })
    debian.add({ name: 'linux-source-9.8', version, files })
  }
  add('9.8.7-1', 'old')
  const settings = { DISTRO: 'debian', REPO_URL: debian.url, REPO_KEYRING: debian.keyring }
  const { said, offline } = await keepsSources(t, settings, () => {
    add('9.8.7-2', 'new')
  })
  t.match(said, /linux-source-9.8 9.8.7-1 of .* → linux-source-9.8 9.8.7-2 of/)
  const { REPO_KEYRING: _, ...stranger } = settings
  const refused = await offline({ ...stranger, REPO_KEYRING: '' })
  t.match(refused.said, /InRelease: not signed by the archive's key/)
})

t.test('kernel.org: the tarball of the lock is taken, signed list and all', async (t) => {
  const { folder } = scratchOf(t)
  const make = (word: string): Buffer => {
    writeSources(join(folder, word, 'linux-9.8.7'), word)
    const file = join(folder, `${word}.tar.xz`)
    execFileSync('tar', ['-cJf', file, '-C', join(folder, word), 'linux-9.8.7'])
    return readFileSync(file)
  }
  const signer = makeSigner(t)
  const files: Record<string, Buffer | string> = {}
  const publish = (name: string, tarball: Buffer): void => {
    files[`/v9.x/${name}`] = tarball
    files['/v9.x/sha256sums.asc'] = signer.sign(`${sha256(tarball)}  linux-9.8.7.tar.xz\n`)
  }
  publish('linux-9.8.7.tar.xz', make('old'))
  const server = await serveFiles(t, files)
  const settings = {
    ...{ KERNEL_SOURCE: 'kernel.org', KERNEL_VERSION: '9.8.7' },
    ...{ KERNEL_MIRROR: server.url, KERNEL_KEYRING: signer.keyring },
  }
  const first = join(folder, 'w')
  const lock = { LOCK_FILE: join(folder, 'lock'), VENDOR_DIR: join(folder, 'vendor'), TARGET: 'kernel' }
  const all = { ...settings, ...lock, WORKDIR: first }
  t.equal((await makeAsync('lock', all)).status, 0)
  const vendored = await makeAsync('vendor', all)
  t.match(vendored.stdout, '2 files', vendored.said)

  publish('linux-9.8.7.tar.xz', make('new'))
  const gone = await makeAsync('kernel-src', {
    ...all,
    ...{ WORKDIR: join(folder, 'w2'), VENDOR_DIR: join(folder, 'none') },
  })
  t.match(gone.said, /linux-9.8.7.tar.xz of kernel.org: the mirror has another file than lock names/)
  t.notOk(existsSync(join(folder, 'w2/linux')))
  const again = { ...all, WORKDIR: join(folder, 'w3'), OFFLINE: 'yes' }
  const offline = await makeAsync('kernel-src', again)
  t.equal(offline.status, 0, offline.said)
  t.equal(wordIn(again.WORKDIR), 'old')

  const text = readFileSync(lock.LOCK_FILE, 'utf8')
  const digest = lockOf(lock.LOCK_FILE).kernels[0]?.file?.sha256 ?? ''
  writeFileSync(lock.LOCK_FILE, text.replaceAll(digest, sha256('another')))
  const disagrees = await makeAsync('kernel-src', { ...again, WORKDIR: join(folder, 'w4') })
  t.match(disagrees.said, 'lock: disagrees with the signed index sha256sums.asc')
  writeFileSync(lock.LOCK_FILE, text)
  const stranger = await makeAsync('kernel-src', {
    ...again,
    ...{ WORKDIR: join(folder, 'w5'), KERNEL_KEYRING: makeSigner(t).keyring },
  })
  t.match(stranger.said, /sha256sums.asc: not signed by the archive's key[^]*KERNEL_KEYRING/)
  appendFileSync(join(lock.VENDOR_DIR, 'blobs/sha256', digest), 'x')
  const tampered = await makeAsync('kernel-src', { ...again, WORKDIR: join(folder, 'w6') })
  t.match(tampered.said, 'linux-9.8.7.tar.xz of kernel.org: the file in VENDOR_DIR was changed')
  for (const { status, said } of [gone, disagrees, stranger, tampered]) {
    t.not(status, 0)
    t.equal(said.match(/ERROR/g)?.length, 1, 'one error')
  }
})

t.test('sources of this machine are not locked', async (t) => {
  const { folder, fresh } = scratchOf(t)
  writeSources(join(folder, 'tree'), 'mine')
  const settings = { KERNEL_SOURCE: 'local', KERNEL_TREE: join(folder, 'tree'), TARGET: 'kernel' }
  const lock = { LOCK_FILE: join(folder, 'lock'), WORKDIR: fresh() }
  const refused = await makeAsync('lock', { ...settings, ...lock })
  t.match(refused.said, 'KERNEL_SOURCE=local: sources of this machine are not locked')
  t.notOk(existsSync(lock.LOCK_FILE))
})

/** A new key that signs lists. */
function makeSigner(t: Test): { keyring: string; sign: (text: string) => string } {
  // Short: gpg makes a socket in it, whose path is limited.
  const home = mkdtempSync(join(tmpdir(), 'gnupg-'))
  const gpg = (argv: readonly string[], input: string = ''): Buffer =>
    execFileSync('gpg', ['--homedir', home, '--batch', '--quiet', ...argv], {
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(input === '' ? {} : { input }),
    })
  t.teardown(() => {
    execFileSync('gpgconf', ['--homedir', home, '--kill', 'all'])
    rmSync(home, { recursive: true, force: true })
  })
  gpg(['--passphrase', '', '--quick-generate-key', 'Signer <signer@example.org>', 'ed25519', 'sign', 'never'])
  const keyring = join(home, 'keyring.gpg')
  writeFileSync(keyring, gpg(['--export']))
  return { keyring, sign: (text) => gpg(['--clear-sign'], text).toString() }
}
