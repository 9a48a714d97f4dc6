// SPDX-License-Identifier: Apache-2.0
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { selectPackages, suitesOf } from '../../rootfs-builder/distro.ts'
import { DISTROS } from '../../rootfs-builder/distros.ts'
import { debian } from '../../rootfs-builder/debian/distro.ts'
import { PROJECT_ROOT } from '../../scripts/paths.ts'

const GOLDEN = join(PROJECT_ROOT, 'tests/golden/packages.txt')

/** One line per distro, architecture and features. */
function packageLines(): string[] {
  return DISTROS.flatMap((distro) =>
    Object.keys(distro.arches).flatMap((arch) =>
      [false, true].flatMap((agentInit) =>
        [false, true].map((seccomp) => {
          const features = `agent-init=${agentInit ? 'yes' : 'no'} seccomp=${seccomp ? 'yes' : 'no'}`
          return `${distro.name} ${arch} ${features}: ${selectPackages(distro, { agentInit, seccomp, selinux: false }).join(' ')}`
        }),
      ),
    ),
  )
}

t.test(
  'every guest gets the packages in tests/golden/packages.txt (UPDATE_GOLDEN=1 rewrites it)',
  async (t) => {
    const lines = packageLines()
    if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(GOLDEN, `${lines.join('\n')}\n`)
    t.strictSame(lines, readFileSync(GOLDEN, 'utf8').trimEnd().split('\n'))
  },
)

t.test('every package rule tells why', async (t) => {
  for (const distro of DISTROS)
    for (const { why, packages } of distro.packages) t.ok(why && packages.length > 0)
})

t.test('extra packages come last, each package once', async (t) => {
  const features = { agentInit: true, seccomp: false, selinux: false }
  const plain = selectPackages(debian, features)
  t.strictSame(selectPackages(debian, features, ['vim', 'chrony', 'vim']), [...plain, 'vim'])
})

t.test('suites have the names and addresses of release and mirror', async (t) => {
  const release = { name: 'bookworm', version: '12' }
  t.strictSame(suitesOf(debian, release, 'http://m'), [
    { suite: 'bookworm', url: 'http://m' },
    { suite: 'bookworm-updates', url: 'http://m', optional: true },
    { suite: 'bookworm-security', url: 'http://m-security', optional: true },
  ])
  t.strictSame(suitesOf(debian, { ...release, suites: [{ suite: 'sid', url: '{mirror}' }] }, 'http://m'), [
    { suite: 'sid', url: 'http://m' },
  ])
})
