// SPDX-License-Identifier: Apache-2.0
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { fingerprint, sha256File } from '../../../scripts/digest.ts'
import { fetchSmall } from '../../../scripts/download.ts'
import { BuildError } from '../../../scripts/errors.ts'
import { remembered } from '../../../scripts/mirror-memory.ts'
import type { Asked } from '../../../scripts/mirror-memory.ts'
import type { LockedIndex } from '../../../scripts/package-lock/package-lock.ts'
import { PROJECT_ROOT } from '../../../scripts/paths.ts'
import { mirrorOf, repositoriesOf } from '../../distro.ts'
import type { Choice } from '../../distros.ts'
import { rpmPackages } from '../../packages.ts'
import type { InstalledPackage } from '../../packages.ts'
import { checkIndexNames, checkInstalled, packagesDigest } from '../locked-guest.ts'
import type { BasePlan, PlanRequest } from '../plan.ts'
import { bootstrapDnf } from './bootstrap.ts'
import type { DnfTree } from './bootstrap.ts'
import type { DnfSource } from './config.ts'
import { resolveDnf } from './locked.ts'
import { refreshIndexes, withDnfCache } from './metadata.ts'
import type { IndexedRepository } from './metadata.ts'

/** What the mirror had when it was last asked. */
interface Answer extends Asked {
  readonly releaseVersion: string
  readonly indexes: readonly IndexedRepository[]
}

/** Plan a base tree of a distro with rpm packages, which dnf installs. */
export async function planDnf({
  settings,
  choice,
  packages,
  extra,
  cacheDir,
  locked,
}: PlanRequest): Promise<BasePlan> {
  const { distro, release, arch } = choice
  const keys = keyFiles(
    settings.REPO_KEYRING || join(PROJECT_ROOT, 'rootfs-builder', distro.keyring || 'template'),
  )
  const mirror = settings.REPO_URL || mirrorOf(distro, arch)
  const sourceOf = (releaseVersion: string): DnfSource => ({
    repositories: settings.DISTRO_REPO ? 'host' : repositoriesOf(choice, mirror, releaseVersion),
    keys,
    arch,
    releaseVersion,
  })
  const asked = sourceOf(release.version).repositories
  if (locked !== undefined) checkIndexNames(locked, asked === 'host' ? [] : asked.map(({ id }) => id))
  const question = {
    mirror,
    repositories: asked === 'host' ? asked : asked.map((row) => ({ ...row })),
    ...{ release: release.version, arch, keys: keys.map((file) => sha256File(file)) },
  }
  const nowMs = Date.now()
  const ask = async (): Promise<Answer> => {
    const releaseVersion = await versionOf(choice, mirror)
    const source = sourceOf(releaseVersion)
    const indexes = await withDnfCache(source, cacheDir, (folder) => refreshIndexes(source, folder))
    return { checkedAtMs: nowMs, releaseVersion, indexes }
  }
  const answer =
    locked === undefined
      ? await remembered<Answer>(
          { cacheDir, key: fingerprint(question), refresh: settings.REFRESH, nowMs },
          ask,
        )
      : lockedAnswer(locked.guest.indexes, release.version)
  const { indexes, releaseVersion } = answer
  const source = sourceOf(releaseVersion)
  const found = new Set(indexes.map(({ id }) => id))
  const tree: DnfTree = {
    source,
    packages: [...packages, ...extra],
    indexes,
    database: release.rpmDatabase ?? distro.rpmDatabase ?? 'var/lib/rpm',
    keepDocs: settings.KEEP_DOCS,
    epochSeconds: Math.max(...indexes.map(({ dateSeconds }) => dateSeconds)),
    cacheDir,
    ...(locked === undefined ? {} : { locked }),
  }
  return {
    inputs: {
      arch,
      releaseVersion,
      packages: tree.packages,
      keepDocs: tree.keepDocs,
      database: tree.database,
      // Whichever mirror serves it: the same index names the same packages. The keys go into rpm's database.
      repositories: indexes.map(({ id, sha256 }) => ({ id, sha256 })),
      keys: keys.map((file) => sha256File(file)),
      ...(locked === undefined ? {} : { locked: packagesDigest(locked.guest.packages) }),
    },
    code: ['rootfs-builder/bootstrap', 'rootfs-builder/bootstrap/dnf'],
    tools: ['dnf', 'rpm'],
    epochSeconds: tree.epochSeconds,
    checkedAtMs: answer.checkedAtMs,
    packages: tree.packages,
    indexes: indexes.map((index) => ({ ...index })),
    skipped: (source.repositories === 'host' ? [] : source.repositories)
      .filter(({ id }) => !found.has(id))
      .map(({ id, url }) => ({ suite: id, url, why: 'the mirror has none' })),
    // Its packages bring the guest's own list.
    guestSources: [],
    bootstrap: async (targetDir, tarFile, options) => {
      await bootstrapDnf(tree, targetDir, tarFile, options)
      if (locked !== undefined) checkInstalled(locked, await realPackages(targetDir))
    },
    installed: rpmPackages,
    ...(locked === undefined
      ? { resolve: (options) => resolveDnf(tree, options) }
      : { locked: locked.guest.packages }),
  }
}

/** The indexes as they were when they were locked. */
function lockedAnswer(indexes: readonly LockedIndex[], releaseVersion: string): Answer {
  return {
    ...{ checkedAtMs: 0, releaseVersion },
    indexes: indexes.map(({ name, archive, sha256, dateSeconds = 0 }) => ({
      ...{ id: name, url: archive, sha256, dateSeconds },
    })),
  }
}

/** The installed packages without the keys, which rpm keeps as if they were some. */
async function realPackages(root: string): Promise<InstalledPackage[]> {
  return (await rpmPackages({ root })).filter(({ name }) => name !== 'gpg-pubkey')
}

/** The key files of a folder, or the one file. */
function keyFiles(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path]
  const names = readdirSync(path).filter((name) => /\.(asc|gpg|key)$/.test(name))
  return names.sort().map((name) => join(path, name))
}

/** Stands for the release in addresses; the newest of a distro that counts its releases is asked for. */
async function versionOf({ distro, release }: Choice, mirror: string): Promise<string> {
  if (distro.latestFile === undefined || release.version !== 'latest') return release.version
  const address = `${mirror}/${distro.latestFile}`
  const answer = await fetchSmall(address)
  const text = answer.found ? answer.content.toString().trim() : ''
  if (/^\d+$/.test(text)) return text
  throw new BuildError('E_INPUT', `${address}: does not name the latest release`, {
    because: [answer.found ? `it says: ${text.slice(0, 60)}` : `status ${String(answer.status)}`],
    hint: 'check REPO_URL, or name a release with OS_VERSION=number',
  })
}
