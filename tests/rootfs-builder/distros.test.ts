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
        const raw = { DISTRO: distro.name, OS_VERSION, ARCH: Object.keys(distro.arches)[0] }
        t.strictSame(checkChoice(parseSettings(raw)), [])
        t.equal(choose(parseSettings(raw)).release, release)
      }
    }
  }
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
