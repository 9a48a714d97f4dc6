// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { execa } from 'execa'

import { startMirror } from './apt.ts'

const KEYRING = join(import.meta.dirname, '../../../rootfs-builder/debian/keys/debian-archive-keyring.gpg')

/**
 * Debian's packages with what they depend on, through the mirror of the tests, which keeps them.
 *
 * @param folder for apt's own files
 * @param pool gets the packages
 */
export async function downloadDebs(
  folder: string,
  pool: string,
  wanted: readonly string[],
  arch: string = 'amd64',
): Promise<void> {
  mkdirSync(pool, { recursive: true })
  const mirror = await startMirror()
  const apt = join(folder, 'apt')
  for (const place of ['etc', 'lists/partial', 'cache/archives/partial']) {
    mkdirSync(join(apt, place), { recursive: true })
  }
  writeFileSync(join(apt, 'status'), '')
  writeFileSync(
    join(apt, 'etc/sources.list'),
    `deb [signed-by=${KEYRING} arch=${arch}] ${mirror.url} bookworm main\n`,
  )
  const options = Object.entries({
    Dir: apt,
    'Dir::Etc': join(apt, 'etc'),
    'Dir::State': apt,
    'Dir::State::lists': join(apt, 'lists'),
    'Dir::State::status': join(apt, 'status'),
    'Dir::Cache': join(apt, 'cache'),
    'APT::Architecture': arch,
    'APT::Architectures': arch,
    'APT::Install-Recommends': 'false',
    'APT::Sandbox::User': 'root',
    'Acquire::Languages': 'none',
  }).flatMap(([name, value]) => ['-o', `${name}=${value}`])
  const env = { APT_CONFIG: '/dev/null' }
  await execa('apt-get', [...options, 'update'], { env })
  await execa('apt-get', [...options, '--yes', '--download-only', 'install', ...wanted], { env })
  for (const name of readdirSync(join(apt, 'cache/archives'))) {
    if (name.endsWith('.deb')) renameSync(join(apt, 'cache/archives', name), join(pool, name))
  }
  await mirror.close()
}
