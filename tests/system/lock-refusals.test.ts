// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { appendFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

import { askedGuest } from '../../rootfs-builder/bootstrap/plan.ts'
import { choose } from '../../rootfs-builder/distros.ts'
import { sha256 } from '../../scripts/digest.ts'
import type { Lock, LockedGuest } from '../../scripts/package-lock/package-lock.ts'
import { parseSettings } from '../../scripts/settings.ts'
import { smallAlpine, startRepository } from '../mirrors/alpine.ts'
import { startDebian } from '../mirrors/archive.ts'
import { asNormalUser, makeAsync, openScratch, step } from './user.ts'

t.setTimeout(5 * 60 * 1000)

type Variables = Readonly<Record<string, string>>

const { scratch } = openScratch(t)

const debian = await startDebian(true)
const otherDebian = await startDebian(true)
const alpine = await startRepository()
const otherAlpine = await startRepository()
t.teardown(() => Promise.all([debian, otherDebian, alpine, otherAlpine].map((mirror) => mirror.close())))

// Never installed: all of these builds end before that.
debian.add({ name: 'base', version: '1', isEssential: true })
for (const name of ['chrony', 'iptables', 'cryptsetup-bin', 'e2fsprogs', 'init', 'dbus', 'libseccomp2']) {
  debian.add({ name, version: '1' })
}
await alpine.publish(await smallAlpine())

const GUESTS = {
  debian: { DISTRO: 'debian', REPO_URL: debian.url, REPO_KEYRING: debian.keyring },
  alpine: { DISTRO: 'alpine', REPO_URL: alpine.url, REPO_KEYRING: alpine.keyring },
} as const

const PLACES = {
  LOCK_FILE: join(scratch, 'osbuilder.lock'),
  VENDOR_DIR: join(scratch, 'vendor'),
  SOURCE_DATE_EPOCH: '1795000000',
}

for (const [target, settings] of [
  ['lock', GUESTS.debian],
  ['lock', GUESTS.alpine],
  ['vendor', GUESTS.debian],
] as const) {
  const made = await makeAsync(target, { ...settings, ...PLACES, WORKDIR: join(scratch, 'locked') })
  if (made.status !== 0) throw new Error(made.said)
}

const LOCK = readFileSync(PLACES.LOCK_FILE, 'utf8')

function guestOf(lock: Lock, distro: string): LockedGuest {
  const found = lock.guests.find((guest) => guest.distro === distro)
  if (found === undefined) throw new Error(`no ${distro} in the lock`)
  return found
}

function packageOf(distro: string, name: string): LockedGuest['packages'][number] {
  const found = guestOf(JSON.parse(LOCK) as Lock, distro).packages.find((item) => item.name === name)
  if (found === undefined) throw new Error(`no ${name} in the lock`)
  return found
}

/** Copies of lock and vendor folder, which a case spoils. */
function spoilt(change: (folder: string, lockFile: string) => void): Variables {
  const folder = join(scratch, 'spoilt')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  const [VENDOR_DIR, LOCK_FILE] = [join(folder, 'vendor'), join(folder, 'osbuilder.lock')]
  cpSync(PLACES.VENDOR_DIR, VENDOR_DIR, { recursive: true })
  writeFileSync(LOCK_FILE, LOCK)
  change(VENDOR_DIR, LOCK_FILE)
  return { ...PLACES, VENDOR_DIR, LOCK_FILE }
}

const blob = (folder: string, digest: string): string => join(folder, 'blobs/sha256', digest)

function edit(file: string, from: string | RegExp, to: string): void {
  const text = readFileSync(file, 'utf8')
  const changed = text.replace(from, to)
  if (changed === text) throw new Error(`${file}: nothing to change`)
  writeFileSync(file, changed)
}

/** Build offline, which must end in one error, and leave no rootfs. */
async function refused(t: Test, name: string, settings: Variables, said: RegExp): Promise<void> {
  const WORKDIR = join(scratch, 'refused')
  rmSync(WORKDIR, { recursive: true, force: true })
  const built = await step('rootfs', { OFFLINE: 'yes', ...settings, WORKDIR })
  t.not(built.status, 0, name)
  t.match(built.said, said, name)
  t.equal(built.said.match(/ERROR/g)?.length, 1, `${name}: one error`)
  t.match(built.said, '  try: ', `${name}: with what to do`)
  t.notMatch(built.said, 'this is a bug', name)
  for (const distro of ['debian', 'alpine']) t.notOk(existsSync(join(WORKDIR, `${distro}_rootfs`)), name)
}

for (const [distro, victim] of [
  ['debian', 'iptables'],
  ['alpine', 'libseccomp'],
] as const) {
  const { sha256: digest, version } = packageOf(distro, victim)
  const index = guestOf(JSON.parse(LOCK) as Lock, distro).indexes[0]
  const list = index?.lists?.[0]?.sha256

  t.test(`${distro}: a file of VENDOR_DIR that was changed or is gone`, async (t) => {
    const changed = spoilt((folder) => {
      appendFileSync(blob(folder, digest), 'x')
    })
    const found = new RegExp(`${victim} ${version}: the file in VENDOR_DIR was changed[^]*make vendor`)
    await refused(t, 'package', { ...GUESTS[distro], ...changed }, found)
    const gone = spoilt((folder) => {
      rmSync(blob(folder, digest))
    })
    await refused(t, 'no package', { ...GUESTS[distro], ...gone }, /is not in VENDOR_DIR=[^]*make vendor/)
    for (const one of [index?.sha256, list].filter((digest) => digest !== undefined)) {
      const signed = spoilt((folder) => {
        appendFileSync(blob(folder, one), 'x')
      })
      await refused(t, 'index', { ...GUESTS[distro], ...signed }, /the file in VENDOR_DIR was changed/)
    }
  })

  t.test(`${distro}: a lock that its signed index does not agree with`, async (t) => {
    // Somebody who changes the file, its name and the lock alike still has no key.
    const forged = spoilt((folder, lockFile) => {
      const content = readFileSync(blob(folder, digest))
      const evil = Buffer.concat([content, Buffer.from('evil')])
      writeFileSync(blob(folder, sha256(evil)), evil)
      edit(lockFile, digest, sha256(evil))
      edit(
        lockFile,
        `"sizeBytes": ${String(content.length)}, "sha256": "${sha256(evil)}"`,
        `"sizeBytes": ${String(evil.length)}, "sha256": "${sha256(evil)}"`,
      )
    })
    const found =
      distro === 'debian'
        ? /osbuilder.lock: disagrees with the signed index bookworm[^]*iptables 1[^]*make lock-update/
        : /osbuilder.lock: its packages do not fit[^]*its record is of another package/
    await refused(t, 'forged', { ...GUESTS[distro], ...forged }, found)
    const moved = spoilt((_, lockFile) => {
      edit(lockFile, index?.sha256 ?? '', sha256('another'))
    })
    await refused(t, 'index', { ...GUESTS[distro], ...moved }, /VENDOR_DIR has another index[^]*make vendor/)
  })

  t.test(`${distro}: another key, and a signer that the lock does not name`, async (t) => {
    const keyring = distro === 'debian' ? otherDebian.keyring : otherAlpine.keyring
    const hint = /not signed by (the archive's key|a key of the repository)[^]*REPO_KEYRING/
    await refused(t, 'key', { ...GUESTS[distro], ...PLACES, REPO_KEYRING: keyring }, hint)
    const stranger = spoilt((_, lockFile) => {
      const lock = JSON.parse(readFileSync(lockFile, 'utf8')) as Lock
      const signers = ['0000000000000000000000000000000000000000']
      const guests = lock.guests.map((guest) => ({
        ...guest,
        indexes: guest.indexes.map((one) => ({ ...one, signers })),
      }))
      writeFileSync(lockFile, JSON.stringify({ ...lock, guests }))
    })
    const found = /signed by another key than osbuilder.lock names[^]*locked: 0{40}/
    await refused(t, 'signer', { ...GUESTS[distro], ...stranger }, found)
  })
}

t.test('alpine: rows of the lock that the index and its keys do not have', async (t) => {
  const settings = GUESTS.alpine
  const record = spoilt((_, lockFile) => {
    edit(lockFile, 'T:libmnl of the tests', 'T:something else')
  })
  const disagrees = /disagrees with the signed index .*main[^]*libmnl 1.0-r0/
  await refused(t, 'record', { ...settings, ...record }, disagrees)
  const signer = spoilt((_, lockFile) => {
    edit(lockFile, /("name": "libmnl".*?"signer": )"[^"]*"/, '$1"stranger.rsa.pub"')
  })
  await refused(t, 'signer', { ...settings, ...signer }, /libmnl 1.0-r0: signed by another key/)
  const fewer = spoilt((_, lockFile) => {
    edit(lockFile, /\n.*"name": "libmnl".*\n/, '\n')
  })
  await refused(t, 'fewer', { ...settings, ...fewer }, /packages do not fit to each other[^]*libmnl/)
})

t.test('an index that the distro does not have, whose name would be a path', async (t) => {
  const outside = join(scratch, 'outside')
  const name = `${'../'.repeat(20)}${outside.slice(1)}`
  for (const distro of ['debian', 'alpine'] as const) {
    const own = guestOf(JSON.parse(LOCK) as Lock, distro).indexes[0]?.name ?? ''
    const forged = spoilt((_, lockFile) => {
      const lock = readFileSync(lockFile, 'utf8')
      writeFileSync(lockFile, lock.replaceAll(new RegExp(`("(name|index)": )"${own}"`, 'g'), `$1"${name}"`))
    })
    const found = new RegExp(`osbuilder.lock: ${distro} \\S+ has no index \\.\\./[^]*it has ${own}`)
    await refused(t, distro, { ...GUESTS[distro], ...forged }, found)
  }
  const file = { url: 'http://127.0.0.1:9/x', sizeBytes: 1, sha256: sha256('x') }
  const signed = { archive: 'http://127.0.0.1:9', dateSeconds: 1, signers: [] }
  // dnf's repositories are folders of these names. It is stopped without OFFLINE too, which misses the index first.
  const forged = spoilt((_, lockFile) => {
    const settings = parseSettings({ DISTRO: 'centos' })
    const guest: LockedGuest = {
      ...askedGuest(settings, choose(settings)).asked,
      ...{ mirror: signed.archive, indexes: [{ ...file, ...signed, name }], packages: [] },
    }
    writeFileSync(lockFile, JSON.stringify({ ...(JSON.parse(LOCK) as Lock), guests: [guest] }))
  })
  const found = /osbuilder.lock: centos stream9 has no index \.\.\/[^]*it has baseos, appstream/
  await refused(t, 'centos', { DISTRO: 'centos', ...forged, OFFLINE: 'no' }, found)
  t.notOk(existsSync(outside), 'nothing was written outside')
})

t.test('what the lock does not cover is told, with what it has', async (t) => {
  const cases: readonly [string, Variables, RegExp][] = [
    ['release', { ...GUESTS.debian, OS_VERSION: 'trixie' }, /release: trixie asked for, bookworm locked/],
    ['arch', { ...GUESTS.alpine, ARCH: 'aarch64' }, /arch: aarch64 asked for, x86_64 locked/],
    ['packages', { ...GUESTS.debian, EXTRA_PKGS: 'curl' }, /EXTRA_PKGS: \+curl/],
    ['packages', { ...GUESTS.debian, SECCOMP: 'no' }, /packages: -libseccomp2/],
    ['components', { ...GUESTS.debian, REPO_COMPONENTS: 'main contrib' }, /REPO_COMPONENTS: \+contrib/],
    ['distro', { DISTRO: 'ubuntu' }, /it has alpine 3.22 x86_64, debian bookworm x86_64/],
    ['agent', { ...GUESTS.alpine, AGENT_REPO: '/nowhere' }, /does not cover the agent \/nowhere/],
  ]
  for (const [name, settings, found] of cases) {
    const all = new RegExp(`osbuilder.lock: does not cover[^]*${found.source}[^]*make lock    `)
    if (name === 'agent') await refused(t, name, { ...settings, ...PLACES }, found)
    else await refused(t, name, { ...settings, ...PLACES }, all)
  }
})

t.test('a lock that is none', async (t) => {
  const cases: readonly [string, (lockFile: string) => void, RegExp][] = [
    ['no JSON', (file) => appendFileSync(file, '}'), /is not a lock of osbuilder[^]*JSON/],
    ['merge', (file) => writeFileSync(file, `<<<<<<< HEAD\n${LOCK}`), /is not a lock of osbuilder/],
    ['newer', (file) => edit(file, 'osbuilder-lock-1', 'osbuilder-lock-9'), /format: is osbuilder-lock-9/],
    [
      'digest',
      (file) => edit(file, packageOf('debian', 'iptables').sha256, 'none'),
      /sha256: expected 64 hex/,
    ],
    ['word', (file) => edit(file, '"guests"', '"gusts"'), /gusts: is nothing that a lock has/],
    ['path', (file) => edit(file, 'main/binary-amd64', '../../etc'), /path: expected a path below its index/],
    ['lines', (file) => edit(file, 'T:libmnl', 'T:a\\nP:evil'), /record\[\d+\]: expected a line of text/],
    [
      'url',
      (file) => edit(file, /"url": "http:[^"]*iptables/, '"url": "file:///etc/passwd'),
      /url: expected a URL/,
    ],
    [
      'no host',
      (file) => edit(file, /"url": "http:[^"]*iptables/, '"url": "http://[/'),
      /url: expected a URL/,
    ],
    ['letters', (file) => edit(file, /("url": "http:[^"]*)iptables/, '$1%zz'), /url: expected a URL/],
    [
      'indexes',
      (file) => edit(file, /"indexes": \[[^]*?\n {6}\]/, '"indexes": []'),
      /indexes: expected at least one/,
    ],
    ['empty', (file) => writeFileSync(file, ''), /is not a lock of osbuilder/],
  ]
  for (const [name, spoil, found] of cases) {
    const settings = spoilt((_, lockFile) => {
      spoil(lockFile)
    })
    await refused(t, name, { ...GUESTS.debian, ...settings }, found)
  }
})

t.test('places that are not there, or not ours', async (t) => {
  const settings = { ...GUESTS.debian, ...PLACES }
  const none = { ...settings, VENDOR_DIR: join(scratch, 'none') }
  await refused(t, 'no vendor', none, /VENDOR_DIR=.*none: is no folder of make vendor[^]*make vendor/)
  const noLock = { ...settings, LOCK_FILE: '/dev/null' }
  await refused(
    t,
    'no lock',
    noLock,
    /OFFLINE=yes: builds what a lock names, and there is none[^]*make lock vendor/,
  )
  const missing = { ...settings, LOCK_FILE: join(scratch, 'none.lock'), OFFLINE: 'no' }
  await refused(t, 'missing lock', missing, /none.lock: no such file[^]*make lock/)
  const listed = spoilt((folder) => {
    edit(join(folder, 'index.json'), /sha256:\w{60}/, `sha256:${'0'.repeat(60)}`)
  })
  const changed = /VENDOR_DIR: .* was changed[^]*make vendor/
  await refused(t, 'index.json', { ...GUESTS.debian, ...listed }, changed)
  for (const text of [
    'null',
    '{"manifests":[null]}',
    '{"manifests":[{"digest":"sha256:../../etc/passwd"}]}',
  ]) {
    const forged = spoilt((folder) => {
      writeFileSync(join(folder, 'index.json'), text)
    })
    await refused(t, text, { ...GUESTS.debian, ...forged }, changed)
  }

  const foreign = join(scratch, 'foreign')
  mkdirSync(foreign)
  writeFileSync(join(foreign, 'thesis.txt'), 'mine')
  const WORKDIR = join(scratch, 'locked')
  for (const [target, variables, found] of [
    ['vendor', { VENDOR_DIR: foreign }, /VENDOR_DIR=.*foreign: is not a folder that make vendor made/],
    ['vendor', { LOCK_FILE: '/dev/null' }, /there is no lock[^]*make lock/],
    ['vendor', { OFFLINE: 'yes' }, /OFFLINE=yes: make vendor downloads/],
    ['lock', { OFFLINE: 'yes' }, /OFFLINE=yes: a lock is made of what the mirror has/],
    ['lock', { LOCK_FILE: '/dev/null' }, /LOCK_FILE=\/dev\/null: is no file that a lock can be written to/],
    ['lock', { LOCK_FILE: foreign }, /foreign: is no file that a lock can be written to/],
    ['lock', { BUILD_METHOD: 'dracut' }, /BUILD_METHOD=dracut: takes the guest from this host/],
    ['lock', { EXTRA_PKGS: 'nowhere-to-be-found' }, /no package nowhere-to-be-found/],
  ] as const) {
    const made = await makeAsync(target, { ...settings, WORKDIR, ...variables })
    t.not(made.status, 0)
    t.match(made.said, found)
    t.equal(made.said.match(/ERROR/g)?.length, 1, 'one error')
  }
  t.equal(readFileSync(join(foreign, 'thesis.txt'), 'utf8'), 'mine')
  t.equal(readFileSync(PLACES.LOCK_FILE, 'utf8'), LOCK, 'the lock is as it was')
})

t.test('make vendor mends what was changed, and removes what no lock names', async (t) => {
  const { sha256: digest } = packageOf('debian', 'iptables')
  const settings = spoilt((folder) => {
    appendFileSync(blob(folder, digest), 'x')
    writeFileSync(blob(folder, sha256('old')), 'old')
  })
  const mended = await makeAsync('vendor', {
    ...GUESTS.debian,
    ...settings,
    WORKDIR: join(scratch, 'locked'),
  })
  t.equal(mended.status, 0, mended.said)
  const difference = 'diff --recursive --brief "$1" "$2"'
  execFileSync('bash', ['--norc', '-c', difference, 'bash', PLACES.VENDOR_DIR, settings['VENDOR_DIR'] ?? ''])
})

t.test('a normal user builds offline, in a namespace of the same kind', (t) => {
  const home = join(scratch, 'home')
  execFileSync('chmod', ['-R', 'a+rX', scratch, join(alpine.keyring, '..')])
  const WORKDIR = join(home, 'w')
  const run = asNormalUser(home, { ...GUESTS.alpine, ...PLACES, OFFLINE: 'yes', WORKDIR })
  const log = join(home, 'strace.log')
  // Without its filter of calls, which would take newuidmap its rights.
  const built = run('rootfs', ['strace', '-f', '-qq', '-e', 'trace=unshare,socket', '-o', log])
  t.equal(built.status, 0, built.said)
  const calls = readFileSync(log, 'utf8')
  t.match(calls, /unshare\(CLONE_NEWUSER\|CLONE_NEWNET\) = 0/)
  t.notMatch(calls, /AF_INET/)
  t.end()
})
