// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { downloadDebs } from './debs.ts'
import { serve } from './server.ts'
import type { Mirror } from './server.ts'

/** What Ubuntu's guest is made of; the rest follows from the dependencies. */
const WANTED = ['chrony', 'iptables', 'cryptsetup-bin', 'e2fsprogs', 'init', 'dbus', 'libseccomp2', 'apt']

/** The one file that tells the two distros apart. */
const OS_RELEASE = `PRETTY_NAME="Ubuntu 24.04 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION="24.04 LTS (Noble Numbat)"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
`

export interface LocalArchive extends Mirror {
  /** Keyring that the archive is signed with. */
  readonly keyring: string
  /** Publish what is in the pool now, as Ubuntu does with an update. */
  readonly publish: () => void
}

/**
 * An archive laid out and signed as Ubuntu's, on 127.0.0.1: noble with updates and security, made of
 * Debian's packages, because Ubuntu's own cannot be reached from everywhere that the tests run.
 */
export async function startUbuntu(): Promise<LocalArchive> {
  const folder = mkdtempSync(join(tmpdir(), 'osbuilder-ubuntu-'))
  const pool = join(folder, 'pool/main')
  mkdirSync(pool, { recursive: true })
  await downloadDebs(folder, pool, ['?or(?essential,?priority(required))', ...WANTED])
  rename(folder, pool)
  const home = join(folder, 'gpg')
  mkdirSync(home, { mode: 0o700 })
  const keyring = join(folder, 'test-keyring.gpg')
  gpg(home, '--quick-gen-key', 'Test archive <test@example.invalid>', 'ed25519', 'sign', '0')
  writeFileSync(keyring, gpg(home, '--export'))
  const publish = (): void => {
    publishSuites(folder, home)
  }
  publish()
  const mirror = await serve('ubuntu', (path) => {
    const file = join(folder, path)
    return Promise.resolve(existsSync(file) ? readFileSync(file) : undefined)
  })
  return {
    ...mirror,
    keyring,
    publish,
    close: async () => {
      await mirror.close()
      spawnSync('gpgconf', ['--homedir', home, '--kill', 'all'])
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

function gpg(home: string, ...argv: string[]): Buffer {
  return execFileSync('gpg', ['--homedir', home, '--batch', '--quiet', '--passphrase', '', ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

/** Debian's base-files, in Ubuntu's name. */
function rename(folder: string, pool: string): void {
  const deb = readdirSync(pool).find((name) => name.startsWith('base-files_')) ?? ''
  const tree = join(folder, 'base-files')
  execFileSync('dpkg-deb', ['--raw-extract', join(pool, deb), tree])
  writeFileSync(join(tree, 'usr/lib/os-release'), OS_RELEASE)
  execFileSync('dpkg-deb', ['--build', '--root-owner-group', '-Zgzip', tree, join(pool, deb)], {
    stdio: 'ignore',
  })
  rmSync(tree, { recursive: true })
}

function publishSuites(folder: string, home: string): void {
  const shell = (script: string, ...argv: string[]): void => {
    execFileSync('bash', ['--norc', '-euo', 'pipefail', '-c', script, 'bash', ...argv], {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'pipe'],
    })
  }
  for (const suite of ['noble', 'noble-updates', 'noble-security']) {
    const binary = `dists/${suite}/main/binary-amd64`
    mkdirSync(join(folder, binary), { recursive: true })
    // Updates and security are there and have nothing in them.
    shell(
      'if [ "$2" = noble ]; then apt-ftparchive packages pool; fi > "$1/Packages"; xz -kf "$1/Packages"',
      binary,
      suite,
    )
    rmSync(join(folder, `dists/${suite}/InRelease`), { force: true })
    const facts = {
      Origin: 'Ubuntu',
      Suite: suite,
      Codename: 'noble',
      Components: 'main',
      Architectures: 'amd64',
    }
    const options = Object.entries(facts).flatMap(([name, value]) => [
      '-o',
      `APT::FTPArchive::Release::${name}=${value}`,
    ])
    shell(
      'out=$1; shift; apt-ftparchive "${@:2}" release "$1" > "$out"',
      `${suite}.release`,
      `dists/${suite}`,
      ...options,
    )
    gpg(
      home,
      '--clearsign',
      '--output',
      join(folder, `dists/${suite}/InRelease`),
      join(folder, `${suite}.release`),
    )
  }
}
