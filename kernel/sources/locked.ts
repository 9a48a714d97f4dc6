// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'

import { checkAptIndexes } from '../../scripts/package-lock/apt-locked-index.ts'
import { BuildError } from '../../scripts/errors.ts'
import { gitTitle, unpackCommit } from '../../scripts/git-commit.ts'
import { lockedFile, notVendored } from '../../scripts/package-lock/locked-file.ts'
import type { LockPlaces } from '../../scripts/package-lock/locked-file.ts'
import { disagreeing, otherSigners, vendoredIndexes } from '../../scripts/package-lock/locked-index.ts'
import { offlineWithoutLock, openLock } from '../../scripts/package-lock/package-lock.ts'
import type { LockedFile, LockedKernel } from '../../scripts/package-lock/package-lock.ts'
import { readSigned } from '../../scripts/signed-text.ts'
import { namedBlob } from '../../scripts/package-lock/vendor-layout.ts'
import { debianKeyring, debianRelease, unpackPackage } from './distro.ts'
import { fetchCommit, leaveRepository } from './git.ts'
import { kernelOrgKeyring, listedDigest } from './kernel-org.ts'
import type { ResolvedSource, SourceRequest } from './source.ts'
import { unpackTarball } from './tarball.ts'

type SourceSettings = SourceRequest['settings']

/** The settings that choose the sources, as a lock names them. */
export function askedKernel(settings: SourceSettings): Record<string, string> {
  const { KERNEL_SOURCE, KERNEL_VERSION, KERNEL_REPO, KERNEL_TAG } = settings
  switch (KERNEL_SOURCE) {
    case 'git':
      return { KERNEL_SOURCE, KERNEL_REPO, KERNEL_TAG }
    case 'distro':
      return { KERNEL_SOURCE, KERNEL_VERSION, release: debianRelease(settings) }
    case 'kernel.org':
    case 'local':
      return { KERNEL_SOURCE, KERNEL_VERSION }
  }
}

/** True for the kernel that the settings ask for. */
export function isKernel({ asked }: LockedKernel, settings: SourceSettings): boolean {
  return wordsOf(asked) === wordsOf(askedKernel(settings))
}

function wordsOf(asked: Readonly<Record<string, string>>): string {
  return Object.keys(asked)
    .sort()
    .map((name) => `${name}=${asked[name] ?? ''}`)
    .join(' ')
}

/**
 * The sources of the lock; undefined without a lock, and for those of this machine.
 *
 * @throws BuildError E_CONFIG when there is a lock that does not cover them, or none and OFFLINE needs one
 */
export function lockedSource(request: SourceRequest): ResolvedSource | undefined {
  const { settings, workspace } = request
  if (settings.KERNEL_SOURCE === 'local') return undefined
  const open = openLock(settings)
  if (open === undefined) {
    if (settings.OFFLINE) throw offlineWithoutLock(settings.LOCK_FILE, 'make lock vendor TARGET=kernel')
    return undefined
  }
  const kernel = open.lock.kernels.find((one) => isKernel(one, settings))
  if (kernel === undefined) {
    const others = open.lock.kernels.map(({ title, asked }) => `${title} (${wordsOf(asked)})`)
    const name = basename(open.file)
    throw new BuildError('E_CONFIG', `${name}: does not cover the kernel ${wordsOf(askedKernel(settings))}`, {
      because: others.length === 0 ? ['it has no kernel'] : others.map((other) => `it has ${other}`),
      hint: 'make lock TARGET=kernel    adds it; LOCK_FILE=/dev/null builds without a lock',
    })
  }
  const places: LockPlaces = {
    ...{ lockFile: open.file, cacheDir: workspace.cacheDir },
    ...{ vendorDir: settings.VENDOR_DIR, isOffline: settings.OFFLINE },
    ...otherMirror(kernel, settings),
  }
  const { title, identity, file, git } = kernel
  return {
    ...{ title, identity, keepsTimes: false },
    unpack: async (folder) => {
      if (git !== undefined) await unpackGit(git, request, folder)
      else if (file !== undefined) await unpackFile(kernel, file, { request, places, folder })
      else throw new BuildError('E_INPUT', `${basename(open.file)}: ${title} has neither file nor commit`)
    },
  }
}

function otherMirror(kernel: LockedKernel, settings: SourceSettings): Pick<LockPlaces, 'mirror'> {
  const isDebian = settings.KERNEL_SOURCE === 'distro' && settings.DISTRO === 'debian'
  const asked = isDebian
    ? settings.REPO_URL
    : settings.KERNEL_SOURCE === 'kernel.org'
      ? settings.KERNEL_MIRROR
      : ''
  const locked = kernel.indexes[0]?.archive
  return asked === '' || locked === undefined ? {} : { mirror: { locked, asked } }
}

async function unpackGit(
  git: { readonly repo: string; readonly commit: string },
  { settings, logFile }: SourceRequest,
  folder: string,
): Promise<void> {
  const of = { ...git, withHistory: false }
  const vendored = namedBlob(settings.VENDOR_DIR, gitTitle(of))
  if (vendored !== undefined) {
    await unpackCommit(vendored, of, folder, logFile)
    leaveRepository(git.repo, folder)
    return
  }
  if (settings.OFFLINE)
    throw notVendored(`kernel ${git.repo} ${git.commit.slice(0, 12)}`, settings.VENDOR_DIR)
  await fetchCommit(git, folder, logFile)
}

async function unpackFile(
  kernel: LockedKernel,
  locked: LockedFile,
  of: { readonly request: SourceRequest; readonly places: LockPlaces; readonly folder: string },
): Promise<void> {
  const { request, places, folder } = of
  await checkIndexes(kernel, locked, request, places)
  const file = await lockedFile({ ...locked, title: kernel.title }, places)
  const isPackage = request.settings.KERNEL_SOURCE === 'distro'
  await (isPackage ? unpackPackage : unpackTarball)(file, folder, request.logFile)
}

/** Check the signed indexes in VENDOR_DIR, when they are there: signature, signers, and the digest they name. */
async function checkIndexes(
  kernel: LockedKernel,
  file: LockedFile,
  { settings }: SourceRequest,
  places: LockPlaces,
): Promise<void> {
  const { identity, indexes } = kernel
  if (settings.KERNEL_SOURCE === 'distro') {
    const { package: name = '', version = '' } = identity
    const index = indexes[0]?.name ?? ''
    const packages = [{ ...file, name, version, arch: 'all', index }]
    await checkAptIndexes({ indexes, packages }, debianKeyring(settings), places)
    return
  }
  const name = basename(new URL(file.url).pathname)
  for (const { index, file: list } of await vendoredIndexes(indexes, places)) {
    const { text, signers } = await readSigned(readFileSync(list), {
      address: index.url,
      keyring: kernelOrgKeyring(settings),
      scratch: join(places.cacheDir, 'kernel', 'sha256sums'),
      hint: 'check KERNEL_KEYRING: the keyring that signs the mirror which was locked',
    })
    if (!signers.some((key) => index.signers.includes(key))) throw otherSigners(index, signers, places)
    if (listedDigest(text, name) !== file.sha256) throw disagreeing(places, index, [name])
  }
}
