// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { execa } from 'execa'

import { PROJECT } from '../system/user.ts'
import { downloadDebs } from './debs.ts'
import { serve } from './server.ts'
import type { Mirror } from './server.ts'

/** A package that a test makes of Debian's programs. */
export interface MadeRpm {
  readonly name: string
  /** Debian packages whose files it has; `rest` gives it those of all that no other has. */
  readonly debs?: readonly string[] | 'rest'
  /** Its own files by path, with their text. */
  readonly files?: Readonly<Record<string, string>>
  /** Its own links by path, with their targets. */
  readonly links?: Readonly<Record<string, string>>
  /** Its own folders. */
  readonly folders?: readonly string[]
  /** Lines for `%files`, as `%attr(0750,chrony,chrony) %dir /var/lib/chrony`. */
  readonly attributes?: readonly string[]
  readonly requires?: readonly string[]
  readonly provides?: readonly string[]
  readonly conflicts?: readonly string[]
  /** Shell commands that are run when it is installed. */
  readonly post?: string
  /** Repository that has it. */
  readonly repository: string
}

/** Repositories that stand in for a distro's. */
export interface RpmDistro {
  readonly name: string
  /** Version and release of all packages, in rpm's words. */
  readonly version: string
  readonly release: string
  readonly packages: readonly MadeRpm[]
  /** Path of a repository below the mirror. */
  readonly pathOf: (repository: string) => string
  /** Further files of the mirror by path. */
  readonly files?: Readonly<Record<string, string>>
  /** True when the packages carry no signatures and the index does, as with Clear Linux. */
  readonly signsIndexOnly?: true
}

export interface RpmMirror extends Mirror {
  /** Keyring that the packages are signed with, not armored. */
  readonly keyring: string
  /** One that has signed nothing. */
  readonly otherKeyring: string
}

/** What is made once is kept, as the packages that it is made of are. */
const KEPT = join(PROJECT, 'workdir', 'test-mirror')

/** Raised when the way packages are made here changes. */
const FORMAT = 3

/** Debian's programs for a guest of any rpm distro; what they need comes along. */
const DEBS = [
  ...['bash', 'coreutils', 'grep', 'sed', 'util-linux', 'mount', 'kmod'],
  ...['systemd', 'systemd-sysv', 'dbus', 'chrony', 'iptables', 'libseccomp2', 'cryptsetup-bin', 'e2fsprogs'],
]

/**
 * Repositories of rpm packages on 127.0.0.1, made of Debian's programs under the names of another
 * distro's packages, because its own cannot be reached from everywhere that the tests run.
 */
export async function startRpmMirror(distro: RpmDistro): Promise<RpmMirror> {
  const description = JSON.stringify({ FORMAT, DEBS, ...distro, pathOf: undefined })
  const folder = join(KEPT, `rpm-${distro.name}-${createHash('sha256').update(description).digest('hex')}`)
  if (!existsSync(folder)) await make(distro, folder)
  const mirror = await serve(distro.name, (path) => {
    const own = distro.files?.[path]
    if (own !== undefined) return Promise.resolve(Buffer.from(own))
    const file = join(folder, 'served', path)
    return Promise.resolve(existsSync(file) ? readFileSync(file) : undefined)
  })
  return {
    ...mirror,
    keyring: join(folder, 'test-keyring.gpg'),
    otherKeyring: join(folder, 'other-keyring.gpg'),
  }
}

async function make(distro: RpmDistro, folder: string): Promise<void> {
  const work = `${folder}.${String(process.pid)}`
  mkdirSync(work, { recursive: true })
  const pool = join(work, 'pool')
  await downloadDebs(work, pool, DEBS)
  await layTrees(distro, work, pool)
  const rpms = await buildRpms(distro, work)
  const home = await makeKeys(work)
  if (distro.signsIndexOnly !== true) await sign(home, rpms)
  for (const repository of new Set(distro.packages.map((one) => one.repository))) {
    const served = join(work, 'served', distro.pathOf(repository))
    mkdirSync(join(served, 'Packages'), { recursive: true })
    for (const { name } of distro.packages.filter((one) => one.repository === repository)) {
      const file = rpms.find((path) => path.includes(`/${name}-${distro.version}-`)) ?? ''
      renameSync(file, join(served, 'Packages', file.replace(/^.*\//, '')))
    }
    await execa('createrepo_c', [
      '--quiet',
      '--revision',
      '1790000000',
      '--set-timestamp-to-revision',
      served,
    ])
    if (distro.signsIndexOnly === true) {
      await gpg(home, '--detach-sign', '--armor', join(served, 'repodata/repomd.xml'))
    }
  }
  await execa('gpgconf', ['--homedir', home, '--kill', 'all'])
  rmSync(home, { recursive: true, force: true })
  for (const name of readdirSync(work)) {
    if (!['served', 'test-keyring.gpg', 'other-keyring.gpg'].includes(name))
      rmSync(join(work, name), { recursive: true, force: true })
  }
  try {
    renameSync(work, folder)
  } catch (error) {
    // Another test was faster.
    if (!existsSync(folder)) throw error
    rmSync(work, { recursive: true, force: true })
  }
}

/** A folder of files per package. */
async function layTrees(distro: RpmDistro, work: string, pool: string): Promise<void> {
  const named = new Set(distro.packages.flatMap(({ debs = [] }) => (debs === 'rest' ? [] : debs)))
  const linked = distro.packages.flatMap(({ links = {} }) => Object.keys(links))
  const all = readdirSync(pool).map((file) => ({ file, deb: file.replace(/_.*$/, '') }))
  for (const { name, debs = [], files = {}, links = {}, folders = [] } of distro.packages) {
    const tree = join(work, 'trees', name)
    const merged = ['bin', 'sbin', 'lib', 'lib64']
    for (const folder of merged) mkdirSync(join(tree, 'usr', folder), { recursive: true })
    // Debian's packages have files in /lib; where they end here is in /usr/lib.
    await shell('for name in bin sbin lib lib64; do ln -s "usr/$name" "$1/$name"; done', tree)
    for (const { file, deb } of all) {
      if (!(debs === 'rest' ? !named.has(deb) : debs.includes(deb))) continue
      await shell(
        'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2" --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale --exclude=./usr/share/lintian',
        join(pool, file),
        tree,
      )
    }
    await shell(
      'cd "$1"; for name in bin sbin lib lib64; do rm "$name"; rmdir --ignore-fail-on-non-empty "usr/$name"; done',
      tree,
    )
    // Debian's base-files has folders where another package has links.
    for (const path of linked) rmSync(join(tree, path), { recursive: true, force: true })
    for (const path of folders) mkdirSync(join(tree, path), { recursive: true })
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(tree, path, '..'), { recursive: true })
      // Debian's file of that name may be a link.
      rmSync(join(tree, path), { force: true })
      writeFileSync(join(tree, path), text)
    }
    for (const [path, target] of Object.entries(links)) {
      mkdirSync(join(tree, path, '..'), { recursive: true })
      await shell('ln -sfn "$1" "$2"', target, join(tree, path))
    }
  }
}

/** One run of rpmbuild makes them all. Returns their paths. */
async function buildRpms(distro: RpmDistro, work: string): Promise<string[]> {
  // A folder with owner or mode of its own is in the package that says so, and in no other.
  const special = new Set(
    distro.packages.flatMap(({ attributes = [] }) => attributes.map((line) => line.replace(/^.* /, ''))),
  )
  const sections = await Promise.all(
    distro.packages.map((one) => section(one, join(work, 'trees', one.name), special)),
  )
  const spec = join(work, 'all.spec')
  writeFileSync(
    spec,
    [
      ['Name: all', `Version: ${distro.version}`, `Release: ${distro.release}`, 'Summary: All of them'],
      ['License: GPL-2.0-or-later', '%description', 'Made for tests.'],
      ['%install', 'mkdir -p %{buildroot}', 'cp -a --no-clobber %{_topdir}/trees/*/. %{buildroot}/'],
      sections.flat(),
      '',
    ]
      .flat()
      .join('\n'),
  )
  const macros = {
    _topdir: work,
    _binary_payload: 'w3.zstdio',
    _build_id_links: 'none',
    __os_install_post: '%{nil}',
    __spec_install_post: '%{nil}',
    debug_package: '%{nil}',
    _unpackaged_files_terminate_build: '0',
    clamp_mtime_to_source_date_epoch: '1',
    use_source_date_epoch_as_buildtime: '1',
    _buildhost: 'localhost',
    vendor: 'Tests',
  }
  const defines = Object.entries(macros).flatMap(([name, value]) => ['--define', `${name} ${value}`])
  await execa('rpmbuild', ['-bb', '--quiet', '--nodeps', ...defines, spec], {
    env: { SOURCE_DATE_EPOCH: '1790000000', HOME: work },
  })
  const built = join(work, 'RPMS')
  return readdirSync(built, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.rpm'))
    .map((path) => join(built, path))
}

async function section(one: MadeRpm, tree: string, special: ReadonlySet<string>): Promise<string[]> {
  const { name, requires = [], provides = [], conflicts = [], attributes = [], post } = one
  const { stdout } = await execa('find', [tree, '-mindepth', '1', '-printf', '%y %P\n'])
  const files = stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => ({ isFolder: line.startsWith('d'), path: `/${line.slice(2)}` }))
    .filter(({ path }) => !special.has(path))
    .map(({ isFolder, path }) => `${isFolder ? '%dir ' : ''}"${path}"`)
  return [
    ['', `%package -n ${name}`, `Summary: ${name}`, 'License: GPL-2.0-or-later', 'AutoReqProv: no'],
    requires.map((word) => `Requires: ${word}`),
    provides.map((word) => `Provides: ${word}`),
    conflicts.map((word) => `Conflicts: ${word}`),
    [`%description -n ${name}`, 'Made for tests.'],
    post === undefined ? [] : [`%post -n ${name}`, post],
    [`%files -n ${name}`, '%defattr(-,root,root)', ...files, ...attributes],
  ].flat()
}

/** A key that signs, and one that does not; returns the folder of gpg. */
async function makeKeys(work: string): Promise<string> {
  // The socket of gpg's agent has a short path.
  const home = mkdtempSync(join(tmpdir(), 'osbuilder-gpg-'))
  for (const [user, file] of [
    ['test', 'test-keyring.gpg'],
    ['other', 'other-keyring.gpg'],
  ]) {
    const id = `${String(user)}@example.invalid`
    await gpg(home, '--quick-gen-key', `${String(user)} <${id}>`, 'rsa3072', 'sign', '0')
    await gpg(home, '--output', join(work, String(file)), '--export', id)
  }
  return home
}

async function sign(home: string, rpms: readonly string[]): Promise<void> {
  const macros = { _gpg_path: home, _gpg_name: 'test@example.invalid', __gpg: '/usr/bin/gpg' }
  const defines = Object.entries(macros).flatMap(([name, value]) => ['--define', `${name} ${value}`])
  await execa('rpmsign', ['--addsign', ...defines, ...rpms], { stdin: 'ignore' })
}

async function gpg(home: string, ...argv: string[]): Promise<void> {
  const own = ['--homedir', home, '--batch', '--quiet', '--yes', '--passphrase', '']
  await execa('gpg', [...own, '--default-key', 'test@example.invalid', ...argv])
}

async function shell(script: string, ...argv: string[]): Promise<void> {
  await execa('bash', ['--norc', '-euo', 'pipefail', '-c', script, 'bash', ...argv])
}
