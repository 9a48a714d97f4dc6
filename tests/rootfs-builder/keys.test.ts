// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { DISTROS } from '../../rootfs-builder/distros.ts'
import { PROJECT_ROOT } from '../../scripts/paths.ts'

const ROOM = join(PROJECT_ROOT, 'rootfs-builder')

/** Fingerprints of the primary keys in a file. */
function fingerprints(file: string): string[] {
  const said = execFileSync('gpg', ['--show-keys', '--with-colons', file], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  return [...said.matchAll(/^pub:[^]*?^fpr:+([0-9A-F]{40}):/gm)].map((match) => String(match[1]))
}

t.test(
  'every OpenPGP key in the tree has its fingerprint in the README beside it, and no other has',
  async (t) => {
    for (const { name } of DISTROS) {
      const folder = join(ROOM, name, 'keys')
      t.ok(existsSync(join(folder, 'README.md')), name)
      const readme = readFileSync(join(folder, 'README.md'), 'utf8')
      const files = readdirSync(folder).filter((file) => /\.(asc|gpg)$/.test(file))
      const found = files.flatMap((file) => fingerprints(join(folder, file)))
      const told = [...readme.matchAll(/`([0-9A-F]{40})`/g)].map((match) => String(match[1]))
      t.strictSame(told.sort(), found.sort(), name)
    }
  },
)

t.test('a distro without a key says so in its data', async (t) => {
  for (const { name, keyring } of DISTROS) {
    const files = readdirSync(join(ROOM, name, 'keys')).filter((file) => file !== 'README.md')
    t.equal(keyring === '', files.length === 0, name)
  }
})
