// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { oneByteChanged } from '../mirrors/server.ts'
import { startUbuntu } from '../mirrors/ubuntu.ts'
import { PROJECT, makeAsync } from './user.ts'

t.setTimeout(30 * 60 * 1000)

/** One folder for all distros: the boot kernel is shared through its cache. */
const WORKDIR = join(PROJECT, 'workdir', 'test-boot')

const COMMON = {
  WORKDIR,
  SOURCE_DATE_EPOCH: '1795000000',
  INITRD_COMPRESSION: 'zstd',
  BOOT_TIMEOUT: '300',
  REFRESH: 'always',
}

const ubuntu = await startUbuntu()
t.teardown(() => ubuntu.close())

const UBUNTU = { ...COMMON, DISTRO: 'ubuntu', REPO_URL: ubuntu.url, REPO_KEYRING: ubuntu.keyring }

for (const [agentInit, pid1, kind] of [
  ['no', 'systemd', 'image'],
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
