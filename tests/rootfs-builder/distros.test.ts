// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import {
  DISTROS,
  archOf,
  checkChoice,
  choose,
  distroTable,
  endOfLifeWarning,
} from '../../rootfs-builder/distros.ts'
import { hostArch, parseSettings } from '../../scripts/settings.ts'
import type { RawSettings } from '../../scripts/settings.ts'

const problems = (raw: RawSettings): string[] => checkChoice(parseSettings({ DISTRO: 'debian', ...raw }))

t.test('an unknown distro is one line that names those there are', async (t) => {
  const lines = problems({ DISTRO: 'gentoo' })
  t.equal(lines.length, 1)
  t.match(lines[0], /^DISTRO=gentoo: expected /)
  for (const { name } of DISTROS) t.ok(lines[0]?.includes(name), name)
})

t.test('an unknown release is one line that names those of the distro', async (t) => {
  t.match(problems({ OS_VERSION: 'potato' }), [/^OS_VERSION=potato: debian supports .*bookworm \(12\)/])
})

t.test('every distro is chosen by each of its releases, by name and by version', async (t) => {
  for (const distro of DISTROS) {
    t.ok(
      distro.releases.some(({ name }) => name === distro.defaultRelease),
      distro.name,
    )
    for (const release of distro.releases) {
      for (const OS_VERSION of [release.name, release.version]) {
        const raw = {
          ...{ DISTRO: distro.name, OS_VERSION, ARCH: Object.keys(distro.arches)[0] },
          // Without a key in the tree a user must name one.
          ...(distro.keyring === '' ? { REPO_KEYRING: '/keys' } : {}),
          ...(distro.initModes.some((mode) => mode === 'systemd') ? {} : { AGENT_INIT: 'yes' }),
        }
        t.strictSame(checkChoice(parseSettings(raw)), [])
        t.equal(choose(parseSettings(raw)).release, release)
      }
    }
  }
})

t.test('a distro that counts its releases takes any number, and no other word', async (t) => {
  const raw = { DISTRO: 'clearlinux', REPO_KEYRING: '/keys', ARCH: 'x86_64' }
  t.equal(choose(parseSettings({ ...raw, OS_VERSION: '43000' })).release.version, '43000')
  t.match(checkChoice(parseSettings({ ...raw, OS_VERSION: '43k' })), [
    /^OS_VERSION=43k: clearlinux supports latest or a number/,
  ])
})

t.test('settings of dnf are refused where nothing would heed them', async (t) => {
  t.match(problems({ DISTRO_REPO: 'yes' }), ['DISTRO_REPO=yes: is for distros with dnf; debian has apt'])
  t.match(problems({ SELINUX: 'yes' }), [/^SELINUX=yes: debian has no policy .*DISTRO=centos/])
  t.match(problems({ DISTRO: 'centos', SELINUX: 'yes', AGENT_INIT: 'yes' }), [/type AGENT_INIT=no/])
  t.match(problems({ DISTRO: 'clearlinux', ARCH: 'x86_64' }), [
    /^REPO_KEYRING=: there is no key of clearlinux/,
  ])
  t.strictSame(problems({ DISTRO: 'clearlinux', ARCH: 'x86_64', DISTRO_REPO: 'yes' }), [])
})

t.test('no release given is the default one, no architecture the host', async (t) => {
  t.equal(choose(parseSettings({ DISTRO: 'debian' })).release.name, 'bookworm')
  t.equal(archOf({ ARCH: 'host' }), hostArch())
  t.equal(archOf({ ARCH: 's390x' }), 's390x')
})

t.test('a release without security updates is warned of from the day after its last', async (t) => {
  const choice = choose(parseSettings({ DISTRO: 'debian', OS_VERSION: 'bullseye' }))
  t.equal(endOfLifeWarning(choice, '2026-08-31'), undefined)
  t.match(
    endOfLifeWarning(choice, '2026-09-01'),
    /^Debian bullseye has had no security updates since 2026-08-31$/,
  )
  t.equal(
    endOfLifeWarning(choose(parseSettings({ DISTRO: 'debian', OS_VERSION: 'sid' })), '2100-01-01'),
    undefined,
  )
})

t.test('the table of distros names each once, in at most 80 columns', async (t) => {
  const lines = distroTable().split('\n')
  for (const { name } of DISTROS) {
    t.equal(lines.filter((line) => line.startsWith(`${name} `)).length, 1, name)
  }
  for (const line of lines) t.ok(line.length <= 80, line)
})
