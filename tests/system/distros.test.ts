// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawn } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { makeKey, smallAlpine, startRepository } from '../mirrors/alpine.ts'
import { oneByteChanged } from '../mirrors/server.ts'
import { startUbuntu } from '../mirrors/archive.ts'
import { BOOT_SETTINGS, BOOT_WORKDIR, ODD_NAME, PROJECT, ended, makeAsync, openScratch } from './user.ts'
import type { Ended } from './user.ts'

t.setTimeout(30 * 60 * 1000)

const WORKDIR = BOOT_WORKDIR

const ubuntu = await startUbuntu()
t.teardown(() => ubuntu.close())

const UBUNTU = { ...BOOT_SETTINGS, DISTRO: 'ubuntu', REPO_URL: ubuntu.url, REPO_KEYRING: ubuntu.keyring }

for (const [agentInit, pid1, kind] of [
  ['no', 'systemd', 'image'],
  ['no', 'systemd', 'initrd'],
  ['yes', 'agent', 'image'],
  ['yes', 'agent', 'initrd'],
] as const) {
  t.test(`ubuntu: the ${kind} comes up with ${pid1} as PID 1`, async (t) => {
    const settings = { ...UBUNTU, AGENT_INIT: agentInit }
    const built = await makeAsync(`${kind}-ubuntu`, settings)
    t.equal(built.status, 0, built.said)
    const release = readFileSync(join(WORKDIR, 'ubuntu_rootfs/etc/os-release'), 'utf8')
    t.match(release, 'VERSION_CODENAME=noble')
    const sources = readFileSync(join(WORKDIR, 'ubuntu_rootfs/etc/apt/sources.list'), 'utf8')
    t.match(
      sources,
      'deb http://archive.ubuntu.com/ubuntu noble main',
      "the guest knows the distro's own mirror",
    )
    t.match(sources, 'noble-security')
    const booted = await makeAsync('boot', {
      ...settings,
      BOOT: kind,
      BOOT_COMMAND: 'grep ^ID= /etc/os-release',
    })
    t.equal(booted.status, 0, booted.said)
    t.match(booted.said, `(${pid1})`)
    t.match(booted.said, 'ID=ubuntu')
    t.match(booted.stdout, 'agent ready in')
  })
}

t.test("ubuntu: the distro's own key does not open an archive that is signed by another", async (t) => {
  const workdir = join(WORKDIR, '..', 'test-refused')
  const { REPO_KEYRING: _, ...settings } = UBUNTU
  const { status, said } = await makeAsync('rootfs', { ...settings, WORKDIR: workdir })
  t.equal(status, 2, said)
  t.match(said, /InRelease: not signed by the archive's key/)
  t.match(said, 'set REPO_KEYRING')
  t.notOk(existsSync(join(workdir, 'ubuntu_rootfs')))
})

t.test('ubuntu: a package that was changed on the mirror stops the build', async (t) => {
  const workdir = join(WORKDIR, '..', 'test-refused')
  ubuntu.fault(/pool\/main\/iptables_/, { kind: 'change', to: oneByteChanged })
  const { status, said } = await makeAsync('rootfs', { ...UBUNTU, WORKDIR: workdir })
  ubuntu.heal()
  t.not(status, 0)
  t.match(said, 'not the signed one')
  t.notOk(existsSync(join(workdir, 'ubuntu_rootfs')))
})

const alpine = await startRepository()
t.teardown(() => alpine.close())
const SMALL = await smallAlpine()
await alpine.publish(SMALL)

const ALPINE = { ...BOOT_SETTINGS, DISTRO: 'alpine', REPO_URL: alpine.url, REPO_KEYRING: alpine.keyring }

for (const kind of ['image', 'initrd'] as const) {
  t.test(`alpine: the ${kind} comes up with the agent as PID 1, which needs no word`, async (t) => {
    const built = await makeAsync(kind, ALPINE)
    t.equal(built.status, 0, built.said)
    const booted = await makeAsync('boot', {
      ...ALPINE,
      BOOT: kind,
      BOOT_COMMAND: 'cat /etc/os-release /etc/trigger-was-told; ls -ln /etc/shadow; busybox | head -1',
    })
    t.equal(booted.status, 0, booted.said)
    t.match(booted.said, 'ID=alpine')
    t.match(booted.said, '(agent)')
    t.match(booted.said, '/bin /sbin /usr/bin /usr/sbin', 'the trigger was told the folders that changed')
    t.match(booted.said, /-rw-r----- +1 0 +42 /, 'scripts ran in the new tree')
    t.match(booted.said, 'BusyBox v1.')
  })
}

t.test('alpine: a guest of another architecture runs its scripts through qemu-user', async (t) => {
  await alpine.publish(await smallAlpine('aarch64'), { arch: 'aarch64' })
  const workdir = join(WORKDIR, '..', 'test-foreign-alpine')
  t.teardown(() => {
    rmSync(workdir, { recursive: true, force: true })
  })
  const built = await makeAsync('initrd', { ...ALPINE, ARCH: 'aarch64', WORKDIR: workdir })
  t.equal(built.status, 0, built.said)
  const rootfs = join(workdir, 'alpine_rootfs')
  t.equal(readFileSync(join(rootfs, 'etc/apk/arch'), 'utf8'), 'aarch64\n')
  t.equal(statSync(join(rootfs, 'etc/shadow')).gid, 42, 'the script was run')
  t.ok(existsSync(join(rootfs, 'bin/ls')), 'busybox of aarch64 installed its links')
})

t.test('alpine: where no package has a script, no program of the guest is run', async (t) => {
  // Neither busybox nor an agent of these architectures is there, so nothing of them could be run.
  const plain = SMALL.map(({ scripts: _, triggers: __, ...made }) => made)
  const workdir = join(WORKDIR, '..', 'test-foreign-alpine')
  const agent = join(mkdtempSync(join(tmpdir(), 'osbuilder-test-')), 'agent')
  writeFileSync(agent, '#!/bin/sh\n', { mode: 0o755 })
  t.teardown(() => {
    for (const path of [workdir, join(agent, '..')]) rmSync(path, { recursive: true, force: true })
  })
  for (const arch of ['ppc64le', 's390x']) {
    await alpine.publish(plain, { arch })
    const settings = { ...ALPINE, ARCH: arch, WORKDIR: workdir, AGENT_SOURCE_BIN: agent }
    const built = await makeAsync('rootfs', settings)
    t.equal(built.status, 0, built.said)
    const installed = readFileSync(join(workdir, 'alpine_rootfs/lib/apk/db/installed'), 'utf8')
    t.match(installed, `\nA:${arch}\n`)
  }
})

t.test('alpine: the database is the one that apk reads', (t) => {
  const db = join(WORKDIR, 'alpine_rootfs/lib/apk/db')
  const installed = readFileSync(join(db, 'installed'), 'utf8')
  t.match(installed, /^P:busybox\nV:1.37.0-r18\n/m)
  t.match(installed, /^F:bin\nR:busybox\na:0:0:755\nZ:Q1[A-Za-z0-9+/]{27}=$/m)
  t.match(readFileSync(join(db, 'triggers'), 'utf8'), /^Q1\S+ \/bin \/usr\/bin /)
  t.equal(
    readFileSync(join(WORKDIR, 'alpine_rootfs/etc/apk/world'), 'utf8'),
    'alpine-base\niptables\nlibseccomp\n',
  )
  t.equal(
    readFileSync(join(WORKDIR, 'alpine_rootfs/etc/apk/repositories'), 'utf8'),
    'https://dl-cdn.alpinelinux.org/alpine/v3.22/main\n',
    "the guest knows the distro's own mirror",
  )
  t.end()
})

t.test('alpine: a second build with an empty cache gives the same bytes', async (t) => {
  const digest = (): string | undefined =>
    /"sha256": "(\w{64})",\n +"sizeBytes"/.exec(
      readFileSync(join(WORKDIR, 'kata-containers.img.json'), 'utf8'),
    )?.[1]
  const first = digest()
  t.ok(first)
  const again = { ...ALPINE, CACHE_DIR: join(WORKDIR, '..', 'test-refused', 'other-cache') }
  t.equal((await makeAsync('clean', ALPINE)).status, 0)
  const built = await makeAsync('image', again)
  t.equal(built.status, 0, built.said)
  t.match(built.said, 'installing packages')
  t.equal(digest(), first)
})

t.test('alpine: another list of packages fetches only those that are new', async (t) => {
  const before = alpine.asked.length
  const built = await makeAsync('rootfs', { ...ALPINE, EXTRA_PKGS: 'docs' })
  t.equal(built.status, 0, built.said)
  t.strictSame(
    alpine.asked
      .slice(before)
      .map((path) => path.replace(/^.*\//, ''))
      .sort(),
    ['APKINDEX.tar.gz', 'docs-1.0-r0.apk', 'iptables-doc-1.0-r0.apk'],
  )
})

t.test('alpine: a tagged repository with a key of its own serves what is asked of it', async (t) => {
  const other = await startRepository('other@example.invalid-1.rsa.pub')
  t.teardown(() => other.close())
  const file = { name: 'usr/share/hello', content: 'hello' }
  await other.publish([
    { name: 'hello', depends: ['busybox', 'libhello'], files: [file] },
    { name: 'libhello' },
    { name: 'iptables', version: '9-r0' },
  ])
  const workdir = join(WORKDIR, '..', 'test-tagged')
  const url = `${other.url}/v3.22/main`
  const settings = { ...ALPINE, WORKDIR: workdir, REPO_EXTRA: `@other=${url}`, REPO_KEY: other.keyring }
  const refused = await makeAsync('rootfs', { ...settings, EXTRA_PKGS: 'hello' })
  t.match(refused.said, /no package is hello[^]*hello-1.0-r0 of @other[^]*EXTRA_PKGS=hello@other/)
  const built = await makeAsync('rootfs', { ...settings, EXTRA_PKGS: 'hello@other' })
  t.equal(built.status, 0, built.said)
  const read = (path: string): string => readFileSync(join(workdir, 'alpine_rootfs', path), 'utf8')
  t.match(read('lib/apk/db/installed'), /^P:hello\n[^]*^s:other$/m)
  t.match(read('lib/apk/db/installed'), /^P:libhello$/m)
  t.match(read('lib/apk/db/installed'), /^P:iptables\nV:1.8/m)
  t.match(read('etc/apk/world'), /^hello@other$/m)
  t.equal(read('etc/apk/repositories'), `https://dl-cdn.alpinelinux.org/alpine/v3.22/main\n@other ${url}\n`)
  t.strictSame(readdirSync(join(workdir, 'alpine_rootfs/etc/apk/keys')), [
    'other@example.invalid-1.rsa.pub',
    'test@example.invalid-1.rsa.pub',
  ])
  const bare = await makeAsync('rootfs', { ...ALPINE, WORKDIR: workdir, KEEP_PACKAGE_DB: 'no' })
  t.equal(bare.status, 0, bare.said)
  t.notOk(existsSync(join(workdir, 'alpine_rootfs/lib/apk/db')))
  const wrong = await makeAsync('rootfs', { ...settings, REPO_EXTRA: 'ftp://x' })
  t.match(wrong.said, /REPO_EXTRA=ftp:\/\/x: expected http:\/\/… or @tag=http:\/\/…/)
  const debian = await makeAsync('rootfs', {
    ...BOOT_SETTINGS,
    DISTRO: 'debian',
    REPO_KEY: '/x',
    REPO_EXTRA: url,
  })
  t.match(debian.said, /2 problems[^]*REPO_KEY=\/x: is for distros with apk; debian has apt[^]*REPO_EXTRA=/)
  rmSync(workdir, { recursive: true, force: true })
})

t.test('alpine: with systemd it is refused before anything is fetched', async (t) => {
  const before = alpine.asked.length
  const { status, said } = await makeAsync('rootfs', { ...ALPINE, AGENT_INIT: 'no' })
  t.not(status, 0)
  t.match(said, /AGENT_INIT=no: alpine has no systemd to start the agent; type AGENT_INIT=yes/)
  t.equal(alpine.asked.length, before)
})

t.test('alpine: what cannot be trusted or met is one clear error, and leaves no rootfs', async (t) => {
  const workdir = join(WORKDIR, '..', 'test-refused')
  const stranger = makeKey('stranger-1.rsa.pub')
  const evil = { name: 'libseccomp', files: [{ name: '../../etc/cron.d/evil', content: 'x' }] }
  const cases: readonly [string, () => Promise<void> | void, RegExp, Readonly<Record<string, string>>?][] = [
    [
      'index without signature',
      () => alpine.publish(SMALL, { indexKey: undefined }),
      /APKINDEX.tar.gz: not signed by a key[^]*carries no signature/,
    ],
    [
      'index of a stranger',
      () => alpine.publish(SMALL, { indexKey: stranger }),
      /not signed by a key[^]*stranger-1.rsa.pub/,
    ],
    [
      'package of a stranger',
      () => alpine.publish(SMALL, { packageKey: stranger }),
      /\.apk: not signed by a key/,
    ],
    [
      'changed index',
      () => {
        alpine.fault(/APKINDEX/, { kind: 'change', to: oneByteChanged })
      },
      /APKINDEX.tar.gz: (is damaged|not signed)/,
    ],
    [
      'changed package',
      () => {
        alpine.fault(/iptables-1/, { kind: 'change', to: oneByteChanged })
      },
      /iptables-1.8.11-r1.apk: (is damaged|is not the package|not signed)/,
    ],
    [
      'package that is gone',
      () => {
        alpine.fault(/iptables-1/, { kind: 'status', status: 404 })
      },
      /the index names it, and the mirror has no such file/,
    ],
    [
      'mirror that stops half-way',
      () => {
        alpine.fault(/busybox-1/, { kind: 'cut', afterBytes: 1000, times: 99 })
      },
      /busybox-1.37.0-r18.apk: cannot be downloaded/,
    ],
    [
      'path out of the tree',
      () => alpine.publish([...SMALL.filter(({ name }) => name !== 'libseccomp'), evil]),
      /libseccomp-1.0-r0: its file .* would lie outside of the guest/,
    ],
    [
      'missing package',
      () => undefined,
      /no package iptabels in the repositories[^]*near names: iptables/,
      { EXTRA_PKGS: 'iptabels' },
    ],
    [
      'conflict',
      () => undefined,
      /busybox-1.37.0-r18 may not be installed: the list of packages has !busybox/,
      { EXTRA_PKGS: '!busybox' },
    ],
    [
      'key of the distro',
      () => undefined,
      /not signed by a key[^]*known keys: alpine-devel@lists.alpinelinux.org/,
      { REPO_KEYRING: '' },
    ],
  ]
  for (const [name, spoil, said, settings = {}] of cases) {
    await alpine.publish(SMALL)
    await spoil()
    // What was verified once is not fetched again, and so not refused.
    rmSync(workdir, { recursive: true, force: true })
    const built = await makeAsync('rootfs', { ...ALPINE, ...settings, WORKDIR: workdir })
    alpine.heal()
    t.not(built.status, 0, name)
    t.match(built.said, said, name)
    t.notMatch(built.said, 'this is a bug', name)
    t.notOk(existsSync(join(workdir, 'alpine_rootfs')), name)
  }
})

t.test('a distro is begun from the template, filled in, and builds', async (t) => {
  const { scratch } = openScratch(t)
  const project = join(scratch, ODD_NAME)
  mkdirSync(project)
  // What git knows of, so that nothing of this checkout is changed; and what npm has installed, which
  // its make takes for new as long as package.json keeps its time.
  execFileSync(
    'bash',
    [
      '--norc',
      '-euo',
      'pipefail',
      '-c',
      'git -c safe.directory="$PWD" ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --preserve=timestamps -t "$1"; ln -s "$PWD/node_modules" "$1/node_modules"',
      'bash',
      project,
    ],
    { cwd: PROJECT },
  )
  const inCopy = (target: string, words: Readonly<Record<string, string>>): Promise<Ended> =>
    ended(
      spawn('make', [...Object.entries(words).map(([name, value]) => `${name}=${value}`), target], {
        cwd: project,
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '/root' },
      }),
    )
  const begun = await inCopy('new-distro', { NAME: 'mine' })
  t.equal(begun.status, 0, begun.said)
  t.match(begun.stdout, /1\. packageManager[^]*2\. mirror and keyring[^]*3\. packages/)
  t.match((await inCopy('new-distro', { NAME: 'mine' })).said, /NAME=mine: .* is there already/)
  t.match((await inCopy('new-distro', { NAME: 'No Name' })).said, 'NAME=No Name: expected lower-case letters')

  const file = join(project, 'rootfs-builder/mine/distro.ts')
  const filled = readFileSync(file, 'utf8')
    .replaceAll("'stable'", "'noble'")
    .replace('http://archive.example.org/mine', ubuntu.url)
  writeFileSync(file, filled)
  cpSync(ubuntu.keyring, join(project, 'rootfs-builder/mine/keys/archive-keyring.gpg'))
  // As it is left where a pull moves a file: it would be code of this build, whose bytes are then others.
  const gone = join(project, 'build/rootfs-builder/gone.js')
  writeFileSync(gone, '')
  const built = await inCopy('rootfs', { DISTRO: 'mine' })
  t.equal(built.status, 0, built.said)
  t.notOk(existsSync(gone), 'what was compiled of a file that is gone goes with it')
  t.match(built.stdout, /ROOTFS +mine noble x86_64 +\d+ packages/)
  for (const { said } of [begun, built]) t.notMatch(said, 'unexpected EOF')
})
