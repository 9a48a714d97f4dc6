// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

import type { Lock } from '../../scripts/package-lock/package-lock.ts'
import { smallAlpine, startRepository } from '../mirrors/alpine.ts'
import { startDebian } from '../mirrors/archive.ts'
import { oneByteChanged } from '../mirrors/server.ts'
import { treeDigest } from './tree-digest.ts'
import { makeAsync, openScratch } from './user.ts'
import type { Ended } from './user.ts'

t.setTimeout(15 * 60 * 1000)

const { scratch, fresh } = openScratch(t)

/**
 * Make a target in a network namespace with nothing in it, every process of it watched. The tools of a
 * build may ask each other (AF_UNIX) and the kernel (AF_NETLINK), and nobody else.
 */
async function withoutSockets(
  t: Test,
  target: string,
  settings: Readonly<Record<string, string>>,
  within: readonly string[] = ['unshare', '--net', '--'],
): Promise<Ended> {
  const log = join(scratch, 'strace.log')
  const made = await makeAsync(target, settings, [...within, ...strace(log)])
  const lines = readFileSync(log, 'utf8').split('\n')
  t.ok(
    lines.some((line) => line.includes('AF_UNIX') || line.includes('AF_NETLINK')),
    'the processes of the build are watched',
  )
  t.strictSame(lines.filter((line) => /AF_(?!UNIX|NETLINK)/.test(line)).slice(0, 5), [], 'no such socket')
  return made
}

function strace(log: string): string[] {
  return ['strace', '-f', '--seccomp-bpf', '-qq', '-e', 'trace=socket,connect', '-o', log]
}

t.test('a socket of the network would be seen', (t) => {
  const log = join(scratch, 'strace-control.log')
  const [tool = '', ...rest] = strace(log)
  const script = 'bash --norc -c ": < /dev/tcp/127.0.0.1/9" 2>/dev/null || true'
  execFileSync(tool, [...rest, 'sh', '-c', script])
  t.match(readFileSync(log, 'utf8'), /AF_INET/)
  t.end()
})

const COMMON = { SOURCE_DATE_EPOCH: '1795000000', REFRESH: 'always' }

t.test('apt: a locked build gives the same bytes after the mirror moved on', async (t) => {
  const debian = await startDebian()
  t.teardown(() => debian.close())
  debian.add({ name: 'hello-words', version: '1' })
  debian.add({ name: 'hello', version: '1', depends: 'hello-words' })
  const lockFile = join(scratch, 'debian.lock')
  const settings = {
    ...COMMON,
    ...{ DISTRO: 'debian', REPO_URL: debian.url, REPO_KEYRING: debian.keyring, LOCK_FILE: lockFile },
    // Over the tree of the distro's own set.
    EXTRA_PKGS: 'hello',
  }
  const early = await makeAsync('rootfs', { ...settings, ...fresh() })
  t.match(early.said, /LOCK_FILE=.*debian.lock: no such file[^]*make lock/)

  const first = fresh()
  const locked = await makeAsync('lock', { ...settings, ...first })
  t.equal(locked.status, 0, locked.said)
  t.match(locked.stdout, /LOCK +debian bookworm x86_64 +\d+ packages +written to debian.lock/)
  const text = readFileSync(lockFile, 'utf8')
  const before = (JSON.parse(text) as Lock).guests[0]
  t.equal(before?.indexes.length, 2, 'both suites')
  const extra = before?.packages.filter(({ layer }) => layer === 'extra').map(({ name }) => name)
  t.strictSame(extra, ['hello', 'hello-words'])
  t.equal(before?.indexes[0]?.signers.length, 1)
  for (const { name, url, sizeBytes, sha256 } of before?.packages ?? []) {
    t.ok(url.startsWith(debian.url) && sizeBytes > 0 && /^[0-9a-f]{64}$/.test(sha256), name)
  }
  const again = await makeAsync('lock', { ...settings, ...first })
  t.match(again.said, 'locked already in debian.lock')

  const built = await makeAsync('rootfs', { ...settings, ...first })
  t.equal(built.status, 0, built.said)
  const manifest = readFileSync(join(first.WORKDIR, 'debian_rootfs.json'), 'utf8')
  t.match(JSON.parse(manifest), { result: { isLocked: true } }, 'so that nobody takes its signers for seen')
  const digest = treeDigest(join(first.WORKDIR, 'debian_rootfs'))
  const VENDOR_DIR = join(scratch, 'vendor-debian')
  const vendored = await makeAsync('vendor', { ...settings, ...first, VENDOR_DIR })
  t.equal(vendored.status, 0, vendored.said)
  // Two suites, each an index and a list, one of them empty as the other suite's was not.
  t.match(vendored.stdout, new RegExp(`${String((before?.packages.length ?? 0) + 4)} files`))

  const asked = debian.asked.length
  const { before: old, after: newer } = debian.update('libseccomp2')
  const second = fresh()
  const later = await makeAsync('rootfs', { ...settings, ...second })
  t.equal(later.status, 0, later.said)
  t.equal(treeDigest(join(second.WORKDIR, 'debian_rootfs')), digest)
  t.strictSame(
    debian.asked.slice(asked).filter((path) => path.includes('/dists/')),
    [],
    'nobody asks for an index when there is a lock',
  )
  t.match((await makeAsync('rootfs', { ...settings, ...second })).stdout, 'unchanged')

  const third = fresh()
  const offline = await withoutSockets(t, 'rootfs', { ...settings, ...third, VENDOR_DIR, OFFLINE: 'yes' })
  t.equal(offline.status, 0, offline.said)
  t.equal(treeDigest(join(third.WORKDIR, 'debian_rootfs')), digest)

  const shown = await makeAsync('lock-update', { ...settings, ...first })
  t.equal(shown.status, 0, shown.said)
  t.match(shown.stdout, /LOCK +index bookworm-updates +\S+.* → \S+/)
  t.match(shown.stdout.replace(/ +/g, ' '), `libseccomp2 ${old} → ${newer}\n`)
  t.match(shown.said, 'make lock-update WRITE=yes')
  t.equal(readFileSync(lockFile, 'utf8'), text, 'nothing was written')

  const workdir = fresh()
  debian.fault(/libseccomp2_/, { kind: 'change', to: oneByteChanged })
  const changed = await makeAsync('rootfs', { ...settings, ...workdir })
  debian.heal()
  t.match(changed.said, `libseccomp2 ${old}: the mirror has another file than debian.lock names`)
  t.match(changed.said, 'make lock-update')
  debian.fault(/libseccomp2_/, { kind: 'status', status: 404 })
  const gone = await makeAsync('rootfs', { ...settings, ...workdir })
  debian.heal()
  t.match(gone.said, `libseccomp2 ${old}: is named in debian.lock, and cannot be had`)
  t.match(gone.said, /the server has no such file[^]*make lock-update/)
  for (const { status, said } of [changed, gone]) {
    t.not(status, 0)
    t.equal(said.match(/ERROR/g)?.length, 1, 'one error')
  }
  t.notOk(existsSync(join(workdir.WORKDIR, 'debian_rootfs')))

  const fewer = join(scratch, 'fewer.lock')
  writeFileSync(fewer, text.replace(/\n.*"name": "iptables".*/, ''))
  const lacking = await makeAsync('rootfs', { ...settings, ...workdir, VENDOR_DIR, LOCK_FILE: fewer })
  t.not(lacking.status, 0)
  t.match(lacking.said, /fewer.lock: its packages do not fit to each other[^]*iptables[^]*make lock-update/)
  t.notOk(existsSync(join(workdir.WORKDIR, 'debian_rootfs')))

  const written = await makeAsync('lock-update', { ...settings, ...first, WRITE: 'yes' })
  t.equal(written.status, 0, written.said)
  const after = (JSON.parse(readFileSync(lockFile, 'utf8')) as Lock).guests
  t.equal(after.length, 1, 'the old one is replaced')
  t.equal(after[0]?.packages.find(({ name }) => name === 'libseccomp2')?.version, newer)
  t.match((await makeAsync('lock-update', { ...settings, ...first })).stdout, 'is up to date')
  const known = new Set(text.split('\n'))
  const lines = readFileSync(lockFile, 'utf8')
    .split('\n')
    .filter((line) => !known.has(line))
  t.ok(lines.length <= 9, `a change of one package changes few lines: ${lines.join('\n')}`)
})

/** A repository with an agent, whose make notes which network it sees. */
function agentRepository(): { folder: string; commit: () => string; change: () => void } {
  const folder = join(scratch, 'agent')
  const git = (...argv: string[]): string =>
    execFileSync('git', ['-C', folder, '-c', 'user.name=t', '-c', 'user.email=t@example.invalid', ...argv], {
      env: { PATH: process.env['PATH'], HOME: scratch },
    }).toString()
  execFileSync('git', ['init', '--quiet', folder])
  writeFileSync(
    join(folder, 'Makefile'),
    `all:\n\tcat /proc/net/dev > ${scratch}/interfaces\n` +
      'install:\n\tinstall -D -m 0755 agent "$$DESTDIR/usr/bin/kata-agent"\n',
  )
  const write = (word: string): void => {
    writeFileSync(join(folder, 'agent'), `#!/bin/sh\necho ${word}\n`)
    git('add', '.')
    git('commit', '--quiet', '--message', word)
    git('tag', word)
  }
  write('first')
  return {
    folder,
    commit: () => git('rev-parse', 'HEAD').trim(),
    change: () => {
      write('second')
    },
  }
}

t.test('apk: a locked build gives the same bytes after the mirror moved on', async (t) => {
  const alpine = await startRepository()
  t.teardown(() => alpine.close())
  const small = await smallAlpine()
  await alpine.publish(small)
  const repo = agentRepository()
  const lockFile = join(scratch, 'alpine.lock')
  const settings = {
    ...COMMON,
    ...{ DISTRO: 'alpine', REPO_URL: alpine.url, REPO_KEYRING: alpine.keyring, LOCK_FILE: lockFile },
    ...{ EXTRA_PKGS: 'docs', AGENT_REPO: repo.folder },
  }
  const first = fresh()
  const locked = await makeAsync('lock', { ...settings, ...first })
  t.equal(locked.status, 0, locked.said)
  const text = readFileSync(lockFile, 'utf8')
  const {
    guests: [guest],
    agents,
  } = JSON.parse(text) as Lock
  t.strictSame(agents, [{ repo: repo.folder, version: '', commit: repo.commit() }])
  t.strictSame(guest?.packages.map(({ name }) => name).sort(), [
    ...['alpine-base', 'alpine-baselayout', 'alpine-baselayout-data', 'alpine-keys', 'busybox'],
    ...['busybox-binsh', 'docs', 'iptables', 'iptables-doc', 'libmnl', 'libseccomp'],
  ])
  for (const { name, sha256, sizeBytes, signer } of guest?.packages ?? []) {
    const file = [...alpine.files].find(([path]) => path.includes(`/${name}-`) && path.endsWith('.apk'))
    t.ok(file !== undefined, name)
    t.match(sha256, /^[0-9a-f]{64}$/)
    t.ok(sizeBytes > 0)
    t.equal(signer, 'test@example.invalid-1.rsa.pub')
  }
  const asked = alpine.asked.length
  const built = await makeAsync('rootfs', { ...settings, ...first })
  t.equal(built.status, 0, built.said)
  t.strictSame(alpine.asked.slice(asked), [], 'all of it was fetched to be locked')
  const digest = treeDigest(join(first.WORKDIR, 'alpine_rootfs'))
  const plain = fresh()
  const unlocked = await makeAsync('rootfs', { ...settings, ...plain, LOCK_FILE: '/dev/null' })
  t.equal(unlocked.status, 0, unlocked.said)
  t.equal(treeDigest(join(plain.WORKDIR, 'alpine_rootfs')), digest, 'a lock changes no byte')

  const VENDOR_DIR = join(scratch, 'vendor-alpine')
  const vendored = await makeAsync('vendor', { ...settings, ...first, VENDOR_DIR })
  t.equal(vendored.status, 0, vendored.said)
  t.match(vendored.stdout, '13 files', 'the packages, the index and the agent')

  repo.change()
  const newer = small.map((made) => (made.name === 'libseccomp' ? { ...made, version: '2.0-r0' } : made))
  await alpine.publish([...newer, { name: 'libnew' }])
  const second = fresh()
  const from = alpine.asked.length
  const later = await makeAsync('rootfs', { ...settings, ...second })
  t.equal(later.status, 0, later.said)
  t.equal(treeDigest(join(second.WORKDIR, 'alpine_rootfs')), digest)
  t.notOk(alpine.asked.slice(from).some((path) => path.includes('APKINDEX')))
  t.match((await makeAsync('rootfs', { ...settings, ...second })).stdout, 'unchanged')

  const copy = join(scratch, 'vendor-copied')
  execFileSync('skopeo', ['--insecure-policy', 'copy', `oci:${VENDOR_DIR}:vendor`, `oci:${copy}:vendor`], {
    stdio: 'pipe',
  })
  renameSync(repo.folder, `${repo.folder}.away`)
  // Here it is the build that leaves the network, as the agent's make sees.
  const cut = fresh()
  const offline = await withoutSockets(
    t,
    'rootfs',
    { ...settings, ...cut, VENDOR_DIR: copy, OFFLINE: 'yes' },
    [],
  )
  t.equal(offline.status, 0, offline.said)
  renameSync(`${repo.folder}.away`, repo.folder)
  t.equal(treeDigest(join(cut.WORKDIR, 'alpine_rootfs')), digest)
  const interfaces = readFileSync(join(scratch, 'interfaces'), 'utf8')
  t.strictSame(
    interfaces.match(/^ *\w+:/gm)?.map((name) => name.trim()),
    ['lo:'],
  )

  const shown = await makeAsync('lock-update', { ...settings, ...first })
  t.match(shown.stdout.replace(/ +/g, ' '), 'libseccomp 1.0-r0 → 2.0-r0\n')
  const [from12 = '', to12 = ''] = [agents[0]?.commit, repo.commit()].map((commit) => commit?.slice(0, 12))
  t.match(shown.stdout, `${from12} → ${to12}`)
  t.equal(readFileSync(lockFile, 'utf8'), text, 'nothing was written')

  const workdir = fresh()
  alpine.fault(/libseccomp-1/, { kind: 'change', to: oneByteChanged })
  const changed = await makeAsync('rootfs', { ...settings, ...workdir })
  alpine.heal()
  t.match(changed.said, 'libseccomp 1.0-r0: the mirror has another file than alpine.lock names')
  alpine.files.delete('v3.22/main/x86_64/libseccomp-1.0-r0.apk')
  const gone = await makeAsync('rootfs', { ...settings, ...workdir })
  t.match(gone.said, 'libseccomp 1.0-r0: is named in alpine.lock, and cannot be had')
  for (const { status, said } of [changed, gone]) {
    t.not(status, 0)
    t.match(said, 'make lock-update')
    t.equal(said.match(/ERROR/g)?.length, 1, 'one error')
  }
  t.notOk(existsSync(join(workdir.WORKDIR, 'alpine_rootfs')))

  const written = await makeAsync('lock-update', { ...settings, ...first, WRITE: 'yes' })
  t.equal(written.status, 0, written.said)
  const third = await makeAsync('rootfs', { ...settings, ...first })
  t.equal(third.status, 0, third.said)
  t.match(readFileSync(join(first.WORKDIR, 'alpine_rootfs/lib/apk/db/installed'), 'utf8'), 'V:2.0-r0')
})
