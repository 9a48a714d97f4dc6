// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { startMirror } from '../mirrors/apt.ts'
import { oneByteChanged } from '../mirrors/server.ts'
import { asNormalUser, ended, leftovers, startStep, step } from './user.ts'
import type { Ended } from './user.ts'

const MINUTE_MS = 60 * 1000
t.setTimeout(20 * MINUTE_MS)

const mirror = await startMirror()
const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
t.teardown(async () => {
  await mirror.close()
  rmSync(scratch, { recursive: true, force: true })
})

const WORKDIR = join(scratch, 'good')
const GOOD = {
  DISTRO: 'debian',
  REPO_URL: mirror.url,
  WORKDIR,
  SOURCE_DATE_EPOCH: '1795000000',
  INITRD_COMPRESSION: 'zstd',
}
const ROOTFS = join(WORKDIR, 'debian_rootfs')
const IMAGE = join(WORKDIR, 'kata-containers.img')

t.test('bad settings are told all at once, with what is allowed, and nothing is made', async (t) => {
  const workdir = join(scratch, 'never')
  const settings = { FS_TYPE: 'ext3', OS_VERSION: 'wheezy', AGENT_INIT: 'maybe', ROOT_FREE_SPACE: '-3' }
  const { status, said } = await step('rootfs', { ...GOOD, WORKDIR: workdir, ...settings })
  t.equal(status, 78)
  t.match(said, 'ERROR settings: 4 problems')
  t.match(said, 'FS_TYPE=ext3: expected ext4')
  t.match(said, 'OS_VERSION=wheezy: debian supports bullseye (11), bookworm (12), trixie (13) or sid')
  t.match(said, 'AGENT_INIT=maybe: expected yes or no')
  t.match(said, 'ROOT_FREE_SPACE=-3: expected a whole number')
  t.match(said, 'try: make help')
  t.notOk(existsSync(workdir))
})

t.test('a distro that is not there is refused with the list of those that are', async (t) => {
  const { status, said } = await step('rootfs', {
    ...GOOD,
    WORKDIR: join(scratch, 'never'),
    DISTRO: 'gentoo',
  })
  t.equal(status, 78)
  t.match(said, 'DISTRO=gentoo: expected alpine, centos, clearlinux, debian, ubuntu')
})

t.test('an unknown flag is refused, and -h tells the known ones', async (t) => {
  for (const name of ['rootfs', 'image', 'initrd', 'boot'] as const) {
    t.equal((await step(name, GOOD, ['--frobnicate'])).status, 64, name)
    const help = await step(name, GOOD, ['-h'])
    t.equal(help.status, 0)
    t.match(help.stdout, `${name}.js`)
  }
})

t.test('folders that are not ours are left alone', async (t) => {
  const foreign = join(scratch, 'foreign')
  mkdirSync(foreign)
  writeFileSync(join(foreign, 'mine'), 'precious')
  for (const [name, value] of [
    ['WORKDIR', foreign],
    ['WORKDIR', '/'],
    ['ROOTFS_DIR', '/'],
    ['ROOTFS_DIR', process.env['HOME'] ?? '/root'],
    ['ROOTFS_DIR', foreign],
  ] as const) {
    const { status, said } = await step('rootfs', { ...GOOD, [name]: value })
    t.equal(status, 78, `${name}=${value}`)
    t.match(said, `${name}=${value}:`)
  }
  t.strictSame(readdirSync(foreign), ['mine'])
})

t.test('a mirror that is down is told, with the settings to look at', async (t) => {
  const workdir = join(scratch, 'down')
  const { status, said } = await step('rootfs', {
    ...GOOD,
    WORKDIR: workdir,
    REPO_URL: 'http://127.0.0.1:9/debian',
  })
  t.equal(status, 75)
  t.match(said, 'REPO_URL')
  t.notOk(existsSync(join(workdir, 'debian_rootfs')))
})

t.test(
  'an index that was changed on the way, is not signed, or is signed by another key is refused',
  async (t) => {
    const home = join(scratch, 'gpg')
    mkdirSync(home, { mode: 0o700 })
    const gpg = (...argv: string[]): Buffer =>
      execFileSync('gpg', ['--homedir', home, '--batch', '--quiet', '--passphrase', '', ...argv], {
        stdio: ['ignore', 'pipe', 'pipe'],
      })
    gpg('--quick-gen-key', 'Test <test@example.invalid>', 'ed25519', 'sign', '0')
    t.teardown(() => spawnSync('gpgconf', ['--homedir', home, '--kill', 'all']))
    const keyring = join(scratch, 'test.gpg')
    writeFileSync(keyring, gpg('--export'))
    const text = join(scratch, 'Release')
    const signed = (content: string): Buffer => {
      writeFileSync(text, content)
      return gpg('--clearsign', '--output', '-', text)
    }
    const release = 'Origin: Test\nSuite: bookworm\nDate: Sat, 01 Aug 2026 00:00:00 UTC\n'
    const cases: readonly [string, (body: Buffer) => Buffer, Readonly<Record<string, string>>, RegExp][] = [
      [
        'changed',
        (body) => Buffer.from(body.toString().replace('Debian', 'Dubian')),
        {},
        /does not match its signature/,
      ],
      ['not signed', () => Buffer.from(release), {}, /carries no signature/],
      ['other key', () => signed(release), {}, /signed by a key that the keyring does not hold/],
      [
        'expired',
        () => signed(`${release}Valid-Until: Sun, 02 Aug 2026 00:00:00 UTC\n`),
        { REPO_KEYRING: keyring },
        /expired on Sun, 02 Aug 2026/,
      ],
    ]
    for (const [name, to, extra, reason] of cases) {
      mirror.fault(/InRelease$/, { kind: 'change', to })
      const workdir = join(scratch, 'untrusted')
      const { status, said } = await step('rootfs', { ...GOOD, WORKDIR: workdir, ...extra })
      mirror.heal()
      t.equal(status, 76, name)
      t.match(said, reason, name)
      t.notOk(existsSync(join(workdir, 'debian_rootfs')), 'no rootfs is left')
    }
  },
)

t.test('a build whose mirror cuts connections succeeds', async (t) => {
  const cut = { kind: 'cut', afterBytes: 1000, times: 2 } as const
  mirror.fault(/pool\/.*chrony_.*\.deb$/, { ...cut })
  mirror.fault(/bookworm\/InRelease/, { ...cut, times: 1 })
  const { status, said } = await step('rootfs', GOOD)
  mirror.heal()
  t.equal(status, 0, said)
  t.match(said, /ROOTFS +debian bookworm \S+ +1\d\d packages +[0-9.]+ s/)
  t.match(said, 'suite bookworm-security is not used', 'a suite the mirror lacks is named')
})

t.test('the rootfs is a guest that knows nothing of the machine it was built on', (t) => {
  const read = (path: string): string => readFileSync(join(ROOTFS, path), 'utf8')
  t.ok(lstatSync(join(ROOTFS, 'etc/resolv.conf')).isFile())
  t.equal(read('etc/resolv.conf'), '')
  t.not(read('etc/hostname').trim(), hostname())
  t.match(read('etc/chrony/chrony.conf'), 'refclock PHC /dev/ptp0')
  t.notMatch(read('etc/chrony/chrony.conf'), /^(pool|server) /m)
  t.match(read('etc/apt/sources.list'), 'deb http://deb.debian.org/debian bookworm main')
  t.notOk(existsSync(join(ROOTFS, 'etc/dpkg/dpkg.cfg.d/99mmdebstrap')))
  t.match(read('var/lib/dpkg/status'), 'Package: chrony')
  t.match(read('var/lib/osbuilder/osbuilder.yaml'), 'agent-is-init-daemon: "no"')
  t.ok(lstatSync(join(ROOTFS, 'usr/bin/kata-agent')).isFile())
  const manifest = JSON.parse(readFileSync(`${ROOTFS}.json`, 'utf8')) as {
    inputs: { agent: { note: string } }
    result: { packages: { name: string; version: string }[]; suites: { signers: string[] }[] }
  }
  t.match(manifest.inputs.agent.note, 'not for production')
  t.match(manifest.result.packages.find(({ name }) => name === 'chrony')?.version ?? '', /^4\./)
  t.ok((manifest.result.suites[0]?.signers.length ?? 0) > 0, 'who signed the index is told')
  t.end()
})

t.test('what has not changed is not built again', async (t) => {
  await step('image', GOOD)
  const before = listing(WORKDIR)
  t.match((await step('rootfs', GOOD)).said, 'unchanged')
  t.match((await step('image', GOOD)).said, 'unchanged')
  t.strictSame(listing(WORKDIR), before, 'nothing was written')
})

t.test('the image passes the tools that know its formats', (t) => {
  const check = spawnSync('e2fsck', ['-fn', `${IMAGE}?offset=${String(3 * 1024 * 1024)}`], {
    encoding: 'utf8',
  })
  t.equal(check.status, 0, check.stdout)
  t.match(execFileSync('fdisk', ['-l', IMAGE], { encoding: 'utf8' }), /img1 +6144 /)
  const bytes = readFileSync(IMAGE)
  const golden = 'b502df4b37a7b6ba1f3c93416b77768a9f6df41ce2ec7fe46804180ca2191553'
  t.equal(createHash('sha256').update(bytes.subarray(4096, 8192)).digest('hex'), golden, 'info block')
  const second = join(scratch, 'second.img')
  writeFileSync(second, bytes.subarray(2 * 1024 * 1024))
  t.match(execFileSync('fdisk', ['-l', second], { encoding: 'utf8' }), /img1 +2048 /)
  t.equal(bytes.length % (128 * 1024 * 1024), 0, 'aligned for memory hotplug')
  t.end()
})

t.test('sizes are the ones asked for, and one that is too small names the one that is not', async (t) => {
  const plain = join(scratch, 'plain.img')
  const asked = { SKIP_DAX_HEADER: 'yes', IMG_SIZE: '333', BLOCK_SIZE: '1024' }
  t.equal((await step('image', { ...GOOD, ...asked }, ['-o', plain])).status, 0)
  t.equal(lstatSync(plain).size, 333 * 1024 * 1024)
  t.match(execFileSync('fdisk', ['-l', plain], { encoding: 'utf8' }), /img1 +2048 /)
  t.equal(spawnSync('e2fsck', ['-fn', `${plain}?offset=${String(1024 * 1024)}`]).status, 0)
  const small = await step('image', { ...GOOD, IMG_SIZE: '20' }, ['-o', join(scratch, 'small.img')])
  t.equal(small.status, 78)
  t.match(small.said, /IMG_SIZE=20: the rootfs does not fit[^]*it needs \d+ MiB/)
  t.notOk(existsSync(join(scratch, 'small.img')))
})

t.test('GNU cpio reads the whole initrd', async (t) => {
  const initrd = join(scratch, 'plain-initrd.img')
  t.equal((await step('initrd', { ...GOOD, INITRD_COMPRESSION: 'none' }, ['-o', initrd])).status, 0)
  const list = execFileSync('bash', ['--norc', '-c', `cpio --quiet -itv < '${initrd}'`], {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  })
  t.match(list, /^lrwx.* init -> \/usr\/lib\/systemd\/systemd$/m)
  t.match(list, /^crw.* 5, +1 .* dev\/console$/m)
  t.match(list, /usr\/bin\/kata-agent$/m)
})

t.test('an edited rootfs is packed as it is, and not overwritten by other settings', async (t) => {
  writeFileSync(join(ROOTFS, 'etc/motd'), 'edited by the user\n')
  t.match((await step('rootfs', GOOD)).said, 'unchanged')
  const packed = await step('image', GOOD)
  t.match(packed.said, /IMAGE .* MiB/)
  const motd = execFileSync(
    'debugfs',
    ['-R', 'cat /etc/motd', `${IMAGE}?offset=${String(3 * 1024 * 1024)}`],
    {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  )
  t.equal(motd, 'edited by the user\n')
  const refused = await step('rootfs', { ...GOOD, KEEP_PACKAGE_DB: 'no' })
  t.equal(refused.status, 66)
  t.match(refused.said, 'edited: /etc/motd')
  t.equal(readFileSync(join(ROOTFS, 'etc/motd'), 'utf8'), 'edited by the user\n')
  await step('clean', GOOD)
  t.notOk(existsSync(ROOTFS))
  t.notOk(existsSync(IMAGE))
  t.equal((await step('rootfs', GOOD)).status, 0)
})

t.test(
  'the same settings give the same bytes in another folder, time zone, locale and umask, and for a normal user',
  async (t) => {
    await step('image', GOOD)
    await step('initrd', GOOD)
    const wanted = digests(WORKDIR)
    const other = { ...GOOD, WORKDIR: join(scratch, 'other place'), TZ: 'Asia/Tokyo', LANG: 'de_DE.UTF-8' }
    mkdirSync(other.WORKDIR)
    cpSync(join(WORKDIR, 'cache'), join(other.WORKDIR, 'cache'), { recursive: true })
    cpSync(join(WORKDIR, '.osbuilder-workdir'), join(other.WORKDIR, '.osbuilder-workdir'))
    const umask = process.umask(0o077)
    try {
      for (const name of ['rootfs', 'image', 'initrd'] as const)
        t.equal((await step(name, other)).status, 0, name)
    } finally {
      process.umask(umask)
    }
    t.strictSame(digests(other.WORKDIR), wanted)
    if (process.geteuid?.() !== 0) return
    const home = join(scratch, 'home')
    const mine = join(home, 'work')
    cpSync(join(WORKDIR, 'cache'), join(mine, 'cache'), { recursive: true })
    cpSync(join(WORKDIR, '.osbuilder-workdir'), join(mine, '.osbuilder-workdir'))
    execFileSync('chmod', ['755', scratch])
    const run = asNormalUser(home, { ...GOOD, WORKDIR: mine })
    for (const name of ['rootfs', 'image', 'initrd'] as const) {
      const { status, said } = run(name)
      t.equal(status, 0, `${name}: ${said}`)
    }
    t.strictSame(digests(mine), wanted, 'as a normal user')
    t.equal(run('clean').status, 0, 'the user can remove it all')
    t.notOk(existsSync(join(mine, 'debian_rootfs')))
  },
)

t.test('the agent comes from where the settings say: a file, an archive, a repository', async (t) => {
  const output = join(scratch, 'agent_rootfs')
  const repository = join(scratch, 'agent-repo')
  mkdirSync(repository)
  writeFileSync(join(repository, 'agent.sh'), '#!/bin/sh\necho from the repository\n', { mode: 0o755 })
  const rules = ['all:', '\t@echo $(INIT) $(SECCOMP) $(LIBC) >built', 'install:']
  const install = [
    '\tinstall -D agent.sh $(DESTDIR)/usr/bin/kata-agent',
    '\tinstall -D built $(DESTDIR)/etc/built',
    '',
  ]
  writeFileSync(join(repository, 'Makefile'), [...rules, ...install].join('\n'))
  const git = (...argv: string[]): Buffer =>
    execFileSync('git', [
      '-C',
      repository,
      '-c',
      'user.name=t',
      '-c',
      'user.email=t@example.invalid',
      ...argv,
    ])
  git('init', '--quiet')
  git('add', '.')
  git('commit', '--quiet', '--message', 'agent')
  git('tag', 'v1')
  const archive = join(scratch, 'agent.tar')
  execFileSync('tar', [
    '-cf',
    archive,
    '-C',
    repository,
    '--transform',
    's,^,usr/bin/,;s,agent.sh,kata-agent,',
    'agent.sh',
  ])
  const file = join(repository, 'agent.sh')
  for (const source of [
    { AGENT_SOURCE_BIN: file },
    { AGENT_TARBALL: archive },
    { AGENT_REPO: repository, AGENT_VERSION: 'v1' },
  ]) {
    const { status, said } = await step('rootfs', { ...GOOD, ...source, ROOTFS_DIR: output })
    t.equal(status, 0, said)
    t.match(readFileSync(join(output, 'usr/bin/kata-agent'), 'utf8'), 'from the repository')
    t.notMatch(said, 'bundled')
  }
  t.equal(readFileSync(join(output, 'etc/built'), 'utf8'), 'no yes musl\n', 'its make was told the settings')
  t.notOk(existsSync(join(repository, 'built')), "the user's checkout was only read")
  const asInit = await step('rootfs', { ...GOOD, AGENT_SOURCE_BIN: '/nowhere', ROOTFS_DIR: output })
  t.match(asInit.said, 'AGENT_SOURCE_BIN=/nowhere: no such file')
})

t.test('a rootfs that is changed in place equals a new one, and survives a failed change', async (t) => {
  const build = async (folder: string, settings: Readonly<Record<string, string>>): Promise<Ended> =>
    step('rootfs', { ...GOOD, ROOTFS_DIR: folder, ...settings })
  // The image holds every byte, owner, mode, link and time of the tree.
  const digest = async (folder: string): Promise<string> => {
    const image = join(scratch, 'digest.img')
    const { status, said } = await step('image', GOOD, ['-o', image, folder])
    t.equal(status, 0, said)
    return createHash('sha256').update(readFileSync(image)).digest('hex')
  }
  const initrd = async (name: string, folder: string): Promise<string> => {
    const file = join(scratch, name)
    const { status, said } = await step('initrd', GOOD, ['-o', file, folder])
    t.equal(status, 0, said)
    return createHash('sha256').update(readFileSync(file)).digest('hex')
  }
  const hooks = join(scratch, 'changing-hooks')
  mkdirSync(join(hooks, 'etc/new'), { recursive: true })
  writeFileSync(join(hooks, 'etc/motd'), 'from the hooks\n')
  symlinkSync('/nowhere', join(hooks, 'etc/new/link'))
  const archive = join(scratch, 'changing-hooks.tar')
  execFileSync('tar', ['-C', hooks, '-cf', archive, '.'])
  const changed = { GUEST_HOOKS_TARBALL: archive, REMOVE_UNITS: 'yes' }
  const folder = join(scratch, 'changing_rootfs')
  t.equal((await build(folder, {})).status, 0)
  const first = await digest(folder)
  await initrd('changing.img', folder)
  const inode = lstatSync(folder).ino
  t.equal((await build(folder, changed)).status, 0)
  t.equal(lstatSync(folder).ino, inode, 'it was changed, not made again')
  t.ok(existsSync(join(scratch, '.changing.img.parts')))
  t.equal(
    await initrd('changing.img', folder),
    await initrd('fresh.img', folder),
    'of parts of the one before, or of none',
  )

  const broken = join(scratch, 'broken.tar')
  writeFileSync(broken, 'no archive at all')
  const before = await digest(folder)
  t.not(before, first)
  const failed = await build(folder, { GUEST_HOOKS_TARBALL: broken })
  t.not(failed.status, 0)
  t.match(failed.said, 'GUEST_HOOKS_TARBALL')
  t.equal(await digest(folder), before)
  t.match((await build(folder, changed)).said, 'unchanged')

  rmSync(join(WORKDIR, 'cache', 'provisioned'), { recursive: true })
  const fresh = join(scratch, 'fresh_rootfs')
  t.equal((await build(fresh, changed)).status, 0)
  t.equal(await digest(fresh), before)
  t.equal((await build(folder, {})).status, 0)
  t.equal(await digest(folder), first, 'and back again')
})

t.test('policy, modules, hooks and extra settings are laid into the guest', async (t) => {
  const output = join(scratch, 'extras_rootfs')
  const policy = join(scratch, 'mine.rego')
  writeFileSync(policy, 'package agent_policy\n')
  const modules = join(scratch, '6.1.0-test')
  mkdirSync(join(modules, 'kernel'), { recursive: true })
  writeFileSync(join(modules, 'kernel/x.ko'), 'x')
  writeFileSync(join(modules, 'modules.dep'), 'kernel/x.ko:\n')
  symlinkSync('/usr/src/linux', join(modules, 'build'))
  const hooks = join(scratch, 'hooks.tar')
  execFileSync('tar', [
    '-cf',
    hooks,
    '-C',
    scratch,
    '--transform',
    's,mine.rego,usr/share/oci/hooks/prestart/hook,',
    'mine.rego',
  ])
  const settings = {
    AGENT_POLICY: 'yes',
    AGENT_POLICY_FILE: policy,
    KERNEL_MODULES_DIR: modules,
    GUEST_HOOKS_TARBALL: hooks,
    CONFIDENTIAL_GUEST: 'yes',
    KEEP_PACKAGE_DB: 'no',
  }
  const { status, said } = await step('rootfs', { ...GOOD, ...settings, ROOTFS_DIR: output }, ['-d'])
  t.equal(status, 0, said)
  const has = (path: string): boolean =>
    lstatSync(join(output, path), { throwIfNoEntry: false }) !== undefined
  for (const path of [
    'etc/kata-opa/mine.rego',
    'etc/kata-opa/default-policy.rego',
    'usr/lib/modules/6.1.0-test/kernel/x.ko',
  ]) {
    t.ok(has(path), path)
  }
  t.ok(has('usr/share/oci/hooks/prestart/hook'))
  t.notOk(has('usr/lib/modules/6.1.0-test/build'), 'a link to the host')
  t.notOk(has('var/lib/dpkg'), 'the package database is dropped when asked')
  t.notOk(has('usr/lib/systemd/system/systemd-udevd.service'), 'units are deleted when asked')
  t.match(readFileSync(join(output, 'etc/fstab'), 'utf8'), 'tmpfs /run tmpfs')
  t.ok(
    (JSON.parse(readFileSync(`${output}.json`, 'utf8')) as { result: { packages: unknown[] } }).result
      .packages.length > 100,
  )
})

t.test('an archive cannot write outside of the rootfs', async (t) => {
  const outside = join(scratch, 'outside')
  mkdirSync(outside)
  const tree = join(scratch, 'evil')
  mkdirSync(join(tree, 'sub'), { recursive: true })
  symlinkSync(outside, join(tree, 'sub/link'))
  writeFileSync(join(scratch, 'payload'), 'evil')
  const hostile = join(scratch, 'hostile.tar')
  // A link to a folder of the host, and then a file through it.
  execFileSync('tar', ['-cf', hostile, '-C', tree, 'sub/link'])
  execFileSync('tar', [
    '-rf',
    hostile,
    '-C',
    scratch,
    '--transform',
    's,payload,sub/link/payload,',
    'payload',
  ])
  const dots = join(scratch, 'dots.tar')
  execFileSync('tar', [
    '-Pcf',
    dots,
    '-C',
    scratch,
    '--transform',
    's,payload,../../../../../../outside-osbuilder,',
    'payload',
  ])
  for (const file of [hostile, dots]) {
    await step('rootfs', { ...GOOD, GUEST_HOOKS_TARBALL: file, ROOTFS_DIR: join(scratch, 'evil_rootfs') })
  }
  t.strictSame(readdirSync(outside), [])
  t.notOk(existsSync('/outside-osbuilder'))
})

t.test('a rootfs without an agent, or for the other init, is not packed', async (t) => {
  const other = await step('image', { ...GOOD, AGENT_INIT: 'yes' }, ['-o', join(scratch, 'x.img')])
  t.equal(other.status, 66)
  t.match(other.said, 'is systemd, but AGENT_INIT=yes wants the agent there')
  const foreign = await step('image', { ...GOOD, ARCH: 'aarch64' }, ['-o', join(scratch, 'x.img')])
  t.match(foreign.said, /is a program for x86_64, not for aarch64/)
  const noAgent = await step('initrd', { ...GOOD, AGENT_BIN: 'other-agent' }, ['-o', join(scratch, 'x.img')])
  t.match(noAgent.said, '/usr/bin/other-agent: no such program')
  t.notOk(existsSync(join(scratch, 'x.img')))
})

t.test('a full disk is told as that, and leaves nothing half-written', async (t) => {
  const small = join(scratch, 'small')
  mkdirSync(small)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=40m', 'tmpfs', small])
  try {
    const output = join(small, 'kata-containers.img')
    const image = await step('image', GOOD, ['-o', output])
    t.equal(image.status, 73, image.said)
    t.match(image.said, 'no space left')
    const initrd = await step('initrd', { ...GOOD, INITRD_COMPRESSION: 'none' }, ['-o', output])
    t.equal(initrd.status, 73, initrd.said)
    t.strictSame(readdirSync(small), [])
    const workdir = join(small, 'work')
    mkdirSync(join(workdir, 'cache'), { recursive: true })
    cpSync(join(WORKDIR, '.osbuilder-workdir'), join(workdir, '.osbuilder-workdir'))
    const rootfs = await step('rootfs', { ...GOOD, WORKDIR: workdir })
    t.equal(rootfs.status, 73, rootfs.said)
    t.notOk(existsSync(join(workdir, 'debian_rootfs')))
    t.strictSame(leftovers(workdir), [])
  } finally {
    execFileSync('umount', [small])
  }
})

t.test(
  'a build that is killed leaves no process, no mount, and nothing that stops the next one',
  async (t) => {
    const workdir = join(scratch, 'killed')
    const settings = { ...GOOD, WORKDIR: workdir, AGENT_INIT: 'yes' }
    for (const afterMs of [400, 2500, 6000].map((least) => least + Math.floor(Math.random() * 1000))) {
      const child = startStep('rootfs', settings)
      const over = ended(child)
      await new Promise((resolve) => setTimeout(resolve, afterMs))
      child.kill('SIGKILL')
      await over
      await new Promise((resolve) => setTimeout(resolve, 300))
      t.equal(
        spawnSync('pgrep', ['-f', `${workdir}/`]).status,
        1,
        `no process is left (killed after ${String(afterMs)} ms)`,
      )
      t.notMatch(readFileSync('/proc/mounts', 'utf8'), workdir)
      t.notOk(existsSync(join(workdir, 'debian_rootfs')))
    }
    // Two at once, after all that: one builds, the other waits and finds it done.
    const both = await Promise.all([step('rootfs', settings), step('rootfs', settings)])
    for (const { status, said } of both) t.equal(status, 0, said)
    for (const name of ['image', 'initrd'] as const) {
      const child = startStep(name, settings)
      const over = ended(child)
      await new Promise((resolve) => setTimeout(resolve, 300 + Math.floor(Math.random() * 300)))
      child.kill('SIGKILL')
      await over
      t.equal((await step(name, settings)).status, 0)
    }
    t.strictSame(leftovers(workdir), [])
  },
)

t.test('a package that is not the signed one is refused, and leaves no rootfs', async (t) => {
  const workdir = join(scratch, 'tampered')
  mirror.fault(/pool\/.*iptables_.*\.deb$/, { kind: 'change', to: oneByteChanged })
  const { status, said } = await step('rootfs', { ...GOOD, WORKDIR: workdir })
  mirror.heal()
  t.equal(status, 76, said)
  t.match(said, 'not the signed one')
  t.notOk(existsSync(join(workdir, 'debian_rootfs')))
  t.strictSame(leftovers(workdir), [])
})

t.test('a package that does not exist is named', async (t) => {
  const { status, said } = await step('rootfs', {
    ...GOOD,
    WORKDIR: join(scratch, 'missing'),
    EXTRA_PKGS: 'no-such-package',
  })
  t.equal(status, 66)
  t.match(said, 'no package no-such-package in bookworm')
  t.match(said, 'EXTRA_PKGS')
  const misspelt = await step('rootfs', {
    ...GOOD,
    WORKDIR: join(scratch, 'missing'),
    EXTRA_PKGS: 'iptabels',
  })
  t.match(misspelt.said, /no package iptabels in bookworm[^]*near names: iptables/)
  const old = await step('rootfs', { ...GOOD, WORKDIR: join(scratch, 'missing'), EXTRA_PKGS: 'strace=0.1' })
  t.equal(old.status, 66, old.said)
  t.match(old.said, 'no version 0.1 of strace in bookworm')
  t.strictSame(readdirSync(join(scratch, 'missing/cache/base')), [], 'nothing was installed before that')
})

t.test('an overlay that cannot be read is told before anything is installed', async (t) => {
  const workdir = join(scratch, 'overlay')
  const overlay = join(scratch, 'overlay-source')
  mkdirSync(overlay)
  writeFileSync(Buffer.concat([Buffer.from(join(overlay, 'name')), Buffer.from([0xff])]), '')
  const { status, said } = await step('rootfs', { ...GOOD, WORKDIR: workdir, ROOTFS_OVERLAY: overlay })
  t.equal(status, 66, said)
  t.match(said, 'a file name is not UTF-8')
  t.notMatch(said, 'installing packages')
  t.strictSame(leftovers(workdir), [])
})

t.test('packages that conflict are named, and so is who asks', async (t) => {
  const workdir = join(scratch, 'conflict')
  const { status, said } = await step('rootfs', {
    ...GOOD,
    WORKDIR: workdir,
    EXTRA_PKGS: 'nullmailer msmtp-mta',
  })
  t.equal(status, 66, said)
  t.match(
    said,
    /the packages do not fit together[^]*(msmtp-mta|nullmailer) : Conflicts: mail-transport-agent/,
  )
  t.notOk(existsSync(join(workdir, 'debian_rootfs')))
  t.strictSame(leftovers(workdir), [])
})

t.test('what is installed elsewhere runs from there', async (t) => {
  const destdir = join(scratch, 'dest')
  t.equal((await step('install', { ...GOOD, DESTDIR: destdir, INSTALL_DIR: '/opt/osbuilder' })).status, 0)
  for (const command of ['rootfs', 'image_builder', 'initrd_builder', 'kernel_builder', 'boot']) {
    const help = spawnSync(join(destdir, 'opt/osbuilder', command), ['-h'], { encoding: 'utf8' })
    t.equal(help.status, 0, `${command}: ${help.stderr}`)
  }
  const output = join(scratch, 'installed.img')
  const { status, stderr } = spawnSync(join(destdir, 'opt/osbuilder/image_builder'), ['-o', output, ROOTFS], {
    env: { PATH: process.env['PATH'], ...GOOD },
    encoding: 'utf8',
  })
  t.equal(status, 0, stderr)
  t.ok(existsSync(output))
})

function digests(folder: string): string[] {
  return ['kata-containers.img', 'kata-containers-initrd.img'].map((name) =>
    createHash('sha256')
      .update(readFileSync(join(folder, name)))
      .digest('hex'),
  )
}

function listing(folder: string): string[] {
  return readdirSync(folder)
    .map((name) => `${name} ${String(lstatSync(join(folder, name)).mtimeMs)}`)
    .sort()
}
