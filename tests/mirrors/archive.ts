// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawnSync } from 'node:child_process'
import {
  cpSync,
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

import { downloadDebs } from './debs.ts'
import { serve } from './server.ts'
import type { Mirror } from './server.ts'

/** What guests are made of; the rest follows from the dependencies. Of a merged /usr there is a choice. */
const WANTED = [
  ...['chrony', 'iptables', 'cryptsetup-bin', 'e2fsprogs', 'init', 'dbus', 'libseccomp2', 'apt'],
  ...['usrmerge', 'usr-is-merged'],
]

/** How a distro lays its archive out. */
interface Layout {
  readonly distro: 'debian' | 'ubuntu'
  readonly codename: string
  /** The main suite first; the next one has what was published as newer. */
  readonly suites: readonly string[]
}

const UBUNTU: Layout = {
  distro: 'ubuntu',
  codename: 'noble',
  suites: ['noble', 'noble-updates', 'noble-security'],
}

/** Its security suite would be in an archive of its own, which is not there. */
const DEBIAN: Layout = { distro: 'debian', codename: 'bookworm', suites: ['bookworm', 'bookworm-updates'] }

/** The one file that tells the two distros apart. */
const OS_RELEASE = `PRETTY_NAME="Ubuntu 24.04 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION="24.04 LTS (Noble Numbat)"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
`

/** Folders of the pool, by the number of the suite that has what is in them. */
const POOLS = ['pool/main', 'pool/updates'] as const

export interface LocalArchive extends Mirror {
  /** Keyring that the archive is signed with. */
  readonly keyring: string
  /** Publish what is in the pool now, as a distro does with an update. */
  readonly publish: () => void
  /** Publish a package that a test makes. */
  readonly add: (made: MadeDeb) => void
  /** Publish a newer version of a package in the suite of updates, beside the old one. Returns both versions. */
  readonly update: (name: string) => { readonly before: string; readonly after: string }
}

/**
 * An archive laid out and signed as Ubuntu's, on 127.0.0.1: noble with updates and security, made of
 * Debian's packages, because Ubuntu's own cannot be reached from everywhere that the tests run.
 */
export function startUbuntu(): Promise<LocalArchive> {
  return startArchive(UBUNTU)
}

/**
 * An archive laid out as Debian's and signed by a key of its own: bookworm with updates.
 *
 * @param isEmpty without the packages of a guest, to be filled with `add`
 */
export function startDebian(isEmpty: boolean = false): Promise<LocalArchive> {
  return startArchive(DEBIAN, isEmpty)
}

async function startArchive(layout: Layout, isEmpty: boolean = false): Promise<LocalArchive> {
  const folder = mkdtempSync(join(tmpdir(), `osbuilder-${layout.distro}-`))
  for (const place of POOLS) mkdirSync(join(folder, place), { recursive: true })
  const pool = join(folder, POOLS[0])
  if (!isEmpty) await downloadDebs(folder, pool, ['?or(?essential,?priority(required))', ...WANTED])
  if (layout.distro === 'ubuntu') rename(folder, pool)
  const home = join(folder, 'gpg')
  mkdirSync(home, { mode: 0o700 })
  const keyring = join(folder, 'test-keyring.gpg')
  gpg(home, '--quick-gen-key', 'Test archive <test@example.invalid>', 'ed25519', 'sign', '0')
  writeFileSync(keyring, gpg(home, '--export'))
  const publish = (): void => {
    for (const [number, suite] of layout.suites.entries()) publishSuite(folder, home, layout, suite, number)
  }
  publish()
  const mirror = await serve(layout.distro, (path) => {
    const file = join(folder, path)
    return Promise.resolve(existsSync(file) ? readFileSync(file) : undefined)
  })
  return {
    ...mirror,
    keyring,
    publish,
    add: (made) => {
      makeDeb(folder, made)
      publish()
    },
    update: (name) => {
      const versions = repackNewer(folder, name)
      publish()
      return versions
    },
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

/** A package for all architectures; `files` is a folder whose content is in it. */
interface MadeDeb {
  readonly name: string
  readonly version: string
  readonly depends?: string
  readonly isEssential?: true
  readonly files?: string
}

function makeDeb(folder: string, { name, version, depends, isEssential, files }: MadeDeb): void {
  const tree = join(folder, 'made')
  if (files === undefined) mkdirSync(tree)
  else cpSync(files, tree, { recursive: true })
  mkdirSync(join(tree, 'DEBIAN'))
  const control = [
    ...[`Package: ${name}`, `Version: ${version}`, 'Architecture: all', 'Maintainer: tests'],
    ...(depends === undefined ? [] : [`Depends: ${depends}`]),
    ...(isEssential === true ? ['Essential: yes', 'Priority: required'] : []),
    'Description: of the tests',
  ]
  writeFileSync(join(tree, 'DEBIAN/control'), `${control.join('\n')}\n`)
  const deb = join(folder, POOLS[0], `${name}_${version}_all.deb`)
  execFileSync('dpkg-deb', ['--build', '--root-owner-group', '-Zgzip', tree, deb], { stdio: 'ignore' })
  rmSync(tree, { recursive: true })
}

/** A package of the pool with a higher version and one file more, for the suite of updates. */
function repackNewer(folder: string, name: string): { before: string; after: string } {
  const deb = readdirSync(join(folder, POOLS[0])).find((file) => file.startsWith(`${name}_`)) ?? ''
  const tree = join(folder, 'newer')
  execFileSync('dpkg-deb', ['--raw-extract', join(folder, POOLS[0], deb), tree])
  const control = join(tree, 'DEBIAN/control')
  const text = readFileSync(control, 'utf8')
  const before = /^Version: (.*)$/m.exec(text)?.[1] ?? ''
  const after = `${before}+new1`
  writeFileSync(control, text.replace(/^Version: .*$/m, `Version: ${after}`))
  writeFileSync(join(tree, `usr/lib/${name}.newer`), '')
  const made = join(folder, POOLS[1], `${name}_newer_amd64.deb`)
  execFileSync('dpkg-deb', ['--build', '--root-owner-group', '-Zgzip', tree, made], { stdio: 'ignore' })
  rmSync(tree, { recursive: true })
  return { before, after }
}

function publishSuite(folder: string, home: string, layout: Layout, suite: string, number: number): void {
  const shell = (script: string, ...argv: string[]): void => {
    execFileSync('bash', ['--norc', '-euo', 'pipefail', '-c', script, 'bash', ...argv], {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'pipe'],
    })
  }
  const binary = `dists/${suite}/main/binary-amd64`
  mkdirSync(join(folder, binary), { recursive: true })
  // A suite without a pool is there and has nothing in it.
  shell(
    'if [ -n "$2" ]; then apt-ftparchive packages "$2"; fi > "$1/Packages"; xz -kf "$1/Packages"',
    binary,
    POOLS[number] ?? '',
  )
  rmSync(join(folder, `dists/${suite}/InRelease`), { force: true })
  const facts = {
    Origin: layout.distro,
    Suite: suite,
    Codename: layout.codename,
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
