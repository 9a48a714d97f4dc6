// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'

import { resolveIndex } from '../../scripts/apt-index.ts'
import type { Suite } from '../../scripts/apt-index.ts'
import { haveLists, lockedAptIndex } from '../../scripts/package-lock/apt-locked-index.ts'
import { findPackage } from '../../scripts/apt-package.ts'
import type { AptPackage, PackageRequest } from '../../scripts/apt-package.ts'
import { BuildError } from '../../scripts/errors.ts'
import { fetchFile } from '../../scripts/fetch-file.ts'
import { PROJECT_ROOT } from '../../scripts/paths.ts'
import type { Settings } from '../../scripts/settings.ts'
import { shell } from '../../scripts/shell.ts'
import { readVersions } from '../versions.ts'
import { unpackTarball } from './tarball.ts'
import type { ResolvedSource, SourceFacts, SourceRequest } from './source.ts'

/** Debian's package with the sources of its kernel: one of its archive, verified down from the signed index. */
export async function distroSource({ settings, workspace, logFile }: SourceRequest): Promise<ResolvedSource> {
  const { debian } = readVersions()
  const isDebian = settings.DISTRO === 'debian'
  const release = debianRelease(settings)
  const mirror = (isDebian && settings.REPO_URL) || debian.mirror
  const request: Omit<PackageRequest, 'name'> = {
    suites: suitesOf(debian.suites, { release, mirror }),
    keyring: debianKeyring(settings),
    cacheDir: workspace.cacheDir,
    refresh: settings.REFRESH,
    nowMs: Date.now(),
    // Sources are for all architectures, and in the index of each.
    debianArch: 'amd64',
    component: 'main',
  }
  const name =
    settings.KERNEL_VERSION === '' ? await currentName(request) : `linux-source-${settings.KERNEL_VERSION}`
  const found = await findPackage({ ...request, name })
  const file = join(workspace.cacheDir, 'kernel', basename(found.url))
  return {
    title: `${name} ${found.version} of ${release}`,
    identity: { package: name, version: found.version, sha256: found.sha256 },
    keepsTimes: false,
    unpack: async (folder) => {
      await fetchFile({
        url: found.url,
        target: file,
        digest: found.sha256,
        digestOrigin: `the signed index of ${release}`,
        hint: 'try again later, or use another mirror with REPO_URL',
      })
      await unpackPackage(file, folder, logFile)
    },
    facts: () => factsOf(found, request),
  }
}

/** The release whose sources are taken. */
export function debianRelease({ DISTRO, OS_VERSION }: Pick<Settings, 'DISTRO' | 'OS_VERSION'>): string {
  return (DISTRO === 'debian' && OS_VERSION) || readVersions().debian.release
}

/** Mirror and keyring of the settings are of their distro, which may be another. */
export function debianKeyring({ DISTRO, REPO_KEYRING }: Pick<Settings, 'DISTRO' | 'REPO_KEYRING'>): string {
  return (DISTRO === 'debian' && REPO_KEYRING) || join(PROJECT_ROOT, readVersions().debian.keyring)
}

async function factsOf(found: AptPackage, request: Omit<PackageRequest, 'name'>): Promise<SourceFacts> {
  const { url, sizeBytes, sha256 } = found
  // As it was asked a moment ago.
  const { suites } = await resolveIndex({ ...request, refresh: 'never' })
  const suite = suites.find((one) => one.suite === found.suite)
  if (suite === undefined) throw new TypeError(`${found.name}: its suite ${found.suite} is gone`)
  const of = { components: [request.component], debianArch: request.debianArch }
  const lists = await haveLists(suite, request, of)
  const index = await lockedAptIndex(lists, request.cacheDir)
  return { file: { url, sizeBytes, sha256 }, signers: suite.signers, indexes: [index] }
}

function suitesOf(suites: readonly Suite[], chosen: { release: string; mirror: string }): Suite[] {
  const fill = (text: string): string =>
    text.replaceAll('{release}', chosen.release).replaceAll('{mirror}', chosen.mirror)
  return suites
    .filter(({ suite }) => !(chosen.release === 'sid' && suite.includes('-security')))
    .map((row) => ({ ...row, suite: fill(row.suite), url: fill(row.url) }))
}

/** The package that `linux-source` stands for: its name has the series of the release. */
async function currentName(request: Omit<PackageRequest, 'name'>): Promise<string> {
  const { depends } = await findPackage({ ...request, name: 'linux-source' })
  const name = /\blinux-source-[\d.]+/.exec(depends)?.[0]
  if (name !== undefined) return name
  throw new BuildError('E_INPUT', `package linux-source: names no version (${depends})`, {
    hint: 'KERNEL_VERSION=6.1    names one',
  })
}

/** A package that holds a tarball. */
export async function unpackPackage(file: string, folder: string, logFile: string): Promise<void> {
  const inner = `${folder}.package`
  rmSync(inner, { recursive: true, force: true })
  mkdirSync(inner)
  try {
    await shell`dpkg-deb --fsys-tarfile ${file} | tar --extract --no-same-owner --directory ${inner} ./usr/src`
    const tarball = readdirSync(join(inner, 'usr/src')).find((name) => /\.tar\.\w+$/.test(name))
    if (tarball === undefined) throw new BuildError('E_INPUT', `${file}: holds no tarball of sources`)
    await unpackTarball(join(inner, 'usr/src', tarball), folder, logFile)
  } finally {
    rmSync(inner, { recursive: true, force: true })
  }
}
