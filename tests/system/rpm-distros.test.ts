// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { CENTOS, CLEARLINUX } from '../mirrors/rpm-distros.ts'
import { startRpmMirror } from '../mirrors/rpm.ts'
import { oneByteChanged } from '../mirrors/server.ts'
import { BOOT_SETTINGS, BOOT_WORKDIR, ODD_NAME, makeAsync } from './user.ts'
import type { Ended } from './user.ts'

t.setTimeout(30 * 60 * 1000)

const WORKDIR = BOOT_WORKDIR

const centos = await startRpmMirror(CENTOS)
const clear = await startRpmMirror(CLEARLINUX)
t.teardown(() => Promise.all([centos.close(), clear.close()]))

const SETTINGS = {
  centos: { ...BOOT_SETTINGS, DISTRO: 'centos', REPO_URL: centos.url, REPO_KEYRING: centos.keyring },
  clearlinux: { ...BOOT_SETTINGS, DISTRO: 'clearlinux', REPO_URL: clear.url, REPO_KEYRING: clear.keyring },
}

for (const [distro, agentInit, kind, said] of [
  ['centos', 'no', 'image', /ID="centos"[^]*\(systemd\)/],
  ['centos', 'no', 'initrd', /ID="centos"[^]*\(systemd\)/],
  ['centos', 'yes', 'image', /ID="centos"[^]*\(agent\)/],
  ['centos', 'yes', 'initrd', /ID="centos"[^]*\(agent\)/],
  ['clearlinux', 'no', 'image', /ID=clear-linux-os[^]*\(systemd\)/],
  ['clearlinux', 'no', 'initrd', /ID=clear-linux-os[^]*\(systemd\)/],
  ['clearlinux', 'yes', 'image', /ID=clear-linux-os[^]*\(agent\)/],
  ['clearlinux', 'yes', 'initrd', /ID=clear-linux-os[^]*\(agent\)/],
] as const) {
  t.test(`${distro}: the ${kind} comes up, AGENT_INIT=${agentInit}`, async (t) => {
    const settings = { ...SETTINGS[distro], AGENT_INIT: agentInit }
    const built = await makeAsync(`${kind}-${distro}`, settings)
    t.equal(built.status, 0, built.said)
    t.notMatch(built.said, 'scripts of packages failed')
    const booted = await makeAsync('boot', { ...settings, BOOT: kind, BOOT_COMMAND: 'cat /etc/os-release' })
    t.equal(booted.status, 0, booted.said)
    t.match(booted.said, said)
    t.match(booted.stdout, 'agent ready in')
  })
}

t.test('clearlinux: a release is a number, and a build says that the project ended', async (t) => {
  const settings = { ...SETTINGS.clearlinux, AGENT_INIT: 'yes' }
  const latest = await makeAsync('rootfs', settings)
  t.match(latest.said, 'Clear Linux latest has had no security updates since 2025-07-18')
  const base = (): unknown => {
    const text = readFileSync(join(WORKDIR, 'clearlinux_rootfs.json'), 'utf8')
    return (JSON.parse(text) as { inputs: { base: unknown } }).inputs.base
  }
  const first = base()
  const numbered = await makeAsync('rootfs', { ...settings, OS_VERSION: '43000' })
  t.equal(numbered.status, 0, numbered.said)
  t.notMatch(numbered.said, 'installing packages', 'it is the same tree')
  t.strictSame(base(), first)
  const other = await makeAsync('rootfs', { ...settings, OS_VERSION: '42' })
  t.match(other.said, /packages cannot be downloaded[^]*releases\/42[^]*OS_VERSION/)
})

const rootfs = join(WORKDIR, 'centos_rootfs')

t.test('centos: scripts ran in the tree, documents stayed out, and rpm reads the database', async (t) => {
  const built = await makeAsync('rootfs', { ...SETTINGS.centos, EXTRA_PKGS: 'hello' })
  t.equal(built.status, 0, built.said)
  t.match(readFileSync(join(rootfs, 'etc/post-was-run'), 'utf8'), /^0 /)
  t.equal(readFileSync(join(rootfs, 'usr/share/hello'), 'utf8'), 'hello\n')
  t.notOk(existsSync(join(rootfs, 'usr/share/doc/coreutils/README')))
  t.strictSame(readdirSync(join(rootfs, 'var/lib/rpm')), ['rpmdb.sqlite'])
  t.notOk(existsSync(join(rootfs, 'var/lib/dnf')))
  const copy = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
  t.teardown(() => {
    rmSync(copy, { recursive: true, force: true })
  })
  // sqlite writes beside a database that is only read.
  execFileSync('cp', ['-a', `${rootfs}/var/lib/rpm/.`, copy])
  t.match(
    execFileSync('rpm', ['--dbpath', copy, '-qa', '--qf', '%{name} %{installtime}\n'], {
      encoding: 'utf8',
    }),
    /^hello 17900000\d\d$/m,
  )
  const manifest = readFileSync(`${rootfs}.json`, 'utf8')
  t.match(manifest, /"name": "iptables-nft",\s+"version": "9-1.el9"/)
  const status = execFileSync('stat', ['-c', '%a %u:%g', join(rootfs, 'var/lib/chrony')], {
    encoding: 'utf8',
  })
  t.equal(status, '750 990:987\n')
})

t.test('centos: a second build with an empty cache gives the same bytes', async (t) => {
  // The clock of the index, not of the setting.
  const settings = { ...SETTINGS.centos, SOURCE_DATE_EPOCH: '', EXTRA_PKGS: 'hello' }
  const digest = (image: string): string | undefined =>
    /"sha256": "(\w{64})",\n +"sizeBytes"/.exec(readFileSync(`${image}.json`, 'utf8'))?.[1]
  const built = await makeAsync('image', settings)
  t.equal(built.status, 0, built.said)
  const first = digest(join(WORKDIR, 'kata-containers.img'))
  t.ok(first)
  const odd = join(WORKDIR, '..', ODD_NAME)
  rmSync(odd, { recursive: true, force: true })
  t.teardown(() => {
    rmSync(odd, { recursive: true, force: true })
  })
  mkdirSync(odd)
  const [workdir, keyring] = [join(odd, 'w'), join(odd, 'a key.gpg')]
  copyFileSync(centos.keyring, keyring)
  const again = await makeAsync('image-centos', { ...settings, WORKDIR: workdir, REPO_KEYRING: keyring })
  t.equal(again.status, 0, again.said)
  t.match(again.said, 'installing packages')
  t.notMatch(again.said, 'unexpected EOF')
  t.equal(digest(join(workdir, 'kata-containers-image-centos.img')), first)
})

t.test('centos: SELINUX=yes brings the policy, and says where it cannot', async (t) => {
  const built = await makeAsync('rootfs', { ...SETTINGS.centos, SELINUX: 'yes' })
  t.equal(built.status, 0, built.said)
  t.ok(existsSync(join(rootfs, 'usr/share/selinux/packages/container.pp.bz2')))
  const off = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
  t.teardown(() => {
    rmSync(off, { recursive: true, force: true })
  })
  execFileSync('mkdir', ['-p', join(off, 'etc/selinux')])
  writeFileSync(join(off, 'etc/selinux/config'), 'SELINUX=disabled\nSELINUXTYPE=targeted\n')
  const disabled = await makeAsync('rootfs', { ...SETTINGS.centos, SELINUX: 'yes', ROOTFS_OVERLAY: off })
  t.match(disabled.said, 'SELINUX=yes: /etc/selinux/config of the guest says SELINUX=disabled')
  const withAgent = await makeAsync('rootfs', { ...SETTINGS.centos, SELINUX: 'yes', AGENT_INIT: 'yes' })
  t.match(withAgent.said, 'SELINUX=yes: systemd loads the policy; type AGENT_INIT=no')
  const elsewhere = await makeAsync('rootfs', { ...SETTINGS.clearlinux, SELINUX: 'yes' })
  t.match(elsewhere.said, /SELINUX=yes: clearlinux has no policy[^]*DISTRO=centos or DISTRO=fedora/)
})

t.test(
  'centos: DISTRO_REPO=yes takes the repositories of this host, and verifies their packages',
  async (t) => {
    const workdir = join(WORKDIR, '..', 'test-host-repositories')
    const folder = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
    t.teardown(() => {
      for (const path of [workdir, folder]) rmSync(path, { recursive: true, force: true })
    })
    const repository = (key: string): string =>
      ['BaseOS', 'AppStream']
        .map((name) => {
          const url = `${centos.url}/$releasever-stream/${name}/$basearch/os`
          // What such a file says of verifying is not heeded.
          return `[host-${name}]\nname=${name}\nbaseurl=${url}\ngpgcheck=0\ngpgkey=file://${key}\n`
        })
        .join('\n')
    const settings = {
      ...SETTINGS.centos,
      WORKDIR: workdir,
      REPO_URL: '',
      REPO_KEYRING: '',
      DISTRO_REPO: 'yes',
    }
    // The host's /etc stays as it is: another layer is mounted over it, for this build alone.
    mkdirSync(join(folder, 'yum.repos.d'))
    const within = [
      ...['unshare', '--mount', '--', 'bash', '--norc', '-euc'],
      ...['mount -t overlay overlay -o "lowerdir=$1:/etc" /etc; shift; exec "$@"', 'bash', folder],
    ]
    const build = (): Promise<Ended> => makeAsync('rootfs', settings, within)
    writeFileSync(join(folder, 'yum.repos.d/test.repo'), repository(centos.otherKeyring))
    const refused = await build()
    t.match(refused.said, "a package or index is not signed by the repository's key")
    t.notOk(existsSync(join(workdir, 'centos_rootfs')))
    writeFileSync(join(folder, 'yum.repos.d/test.repo'), repository(centos.keyring))
    const built = await build()
    t.equal(built.status, 0, built.said)
    t.match(readFileSync(join(workdir, 'centos_rootfs/etc/os-release'), 'utf8'), 'CentOS Stream')
  },
)

t.test('what cannot be trusted or met is one clear error, and leaves no rootfs', async (t) => {
  const workdir = join(WORKDIR, '..', 'test-refused')
  const { REPO_KEYRING: _, ...withoutKey } = SETTINGS.clearlinux
  const cases: readonly {
    readonly name: string
    readonly settings: Readonly<Record<string, string>>
    readonly spoil?: () => void
    readonly said: RegExp
  }[] = [
    {
      name: 'packages of a stranger',
      settings: { ...SETTINGS.centos, REPO_KEYRING: centos.otherKeyring },
      said: /a package or index is not signed by the repository's key[^]*REPO_KEYRING/,
    },
    {
      name: 'key of the distro',
      settings: { ...SETTINGS.centos, REPO_KEYRING: '' },
      said: /a package or index is not signed by the repository's key/,
    },
    {
      name: 'index of a stranger',
      settings: { ...SETTINGS.clearlinux, REPO_KEYRING: clear.otherKeyring },
      said: /a package or index is not signed by the repository's key/,
    },
    {
      name: 'no key at all',
      settings: withoutKey,
      said: /REPO_KEYRING=: there is no key of clearlinux here/,
    },
    {
      name: 'changed signed index',
      settings: SETTINGS.clearlinux,
      spoil: () => {
        clear.fault(/repomd\.xml$/, { kind: 'change', to: oneByteChanged })
      },
      said: /a package or index is not signed|not the one its index names|cannot be downloaded/,
    },
    {
      name: 'changed list of packages',
      settings: SETTINGS.centos,
      spoil: () => {
        centos.fault(/primary/, { kind: 'change', to: oneByteChanged })
      },
      said: /served a package or index that is not the one its index names/,
    },
    {
      name: 'changed package',
      settings: SETTINGS.centos,
      spoil: () => {
        centos.fault(/chrony-/, { kind: 'change', to: oneByteChanged })
      },
      said: /served a package or index that is not the one its index names[^]*chrony/,
    },
    {
      name: 'changed package of a repository whose index is signed',
      settings: SETTINGS.clearlinux,
      spoil: () => {
        clear.fault(/chrony-/, { kind: 'change', to: oneByteChanged })
      },
      said: /served a package or index that is not the one its index names[^]*chrony/,
    },
    {
      name: 'package that is gone',
      settings: SETTINGS.centos,
      spoil: () => {
        centos.fault(/chrony-/, { kind: 'status', status: 404 })
      },
      said: /packages cannot be downloaded[^]*chrony/,
    },
    {
      name: 'mirror that stops half-way',
      settings: SETTINGS.centos,
      spoil: () => {
        centos.fault(/systemd-/, { kind: 'cut', afterBytes: 1000, times: 99 })
      },
      said: /packages cannot be downloaded[^]*systemd/,
    },
    {
      name: 'missing repository',
      settings: SETTINGS.centos,
      spoil: () => {
        centos.fault(/AppStream/, { kind: 'status', status: 404 })
      },
      said: /packages cannot be downloaded[^]*appstream/,
    },
    {
      name: 'missing package',
      settings: { ...SETTINGS.centos, EXTRA_PKGS: 'chorny' },
      said: /no package chorny in the repositories[^]*near names: chrony/,
    },
    {
      name: 'conflict',
      settings: { ...SETTINGS.centos, EXTRA_PKGS: 'against-bash' },
      said: /the packages do not fit together[^]*against-bash[^]*bash/,
    },
    {
      name: 'unmet dependency',
      settings: { ...SETTINGS.centos, EXTRA_PKGS: 'wants-what-is-not-there' },
      said: /the packages do not fit together[^]*nothing provides libnowhere/,
    },
    {
      name: 'unknown release',
      settings: { ...SETTINGS.centos, OS_VERSION: '8' },
      said: /OS_VERSION=8: centos supports stream9 \(9\) or stream10 \(10\)/,
    },
    {
      name: 'architecture',
      settings: { ...SETTINGS.clearlinux, ARCH: 's390x' },
      said: /ARCH=s390x: clearlinux supports x86_64/,
    },
  ]
  for (const { name, settings, spoil, said } of cases) {
    // What was verified once is not fetched again, and so not refused.
    rmSync(workdir, { recursive: true, force: true })
    spoil?.()
    const built = await makeAsync('rootfs', { ...settings, WORKDIR: workdir })
    centos.heal()
    clear.heal()
    t.not(built.status, 0, name)
    t.match(built.said, said, name)
    t.notMatch(built.said, 'this is a bug', name)
    t.notOk(existsSync(join(workdir, `${settings['DISTRO'] ?? ''}_rootfs`)), name)
  }
  rmSync(workdir, { recursive: true, force: true })
})
