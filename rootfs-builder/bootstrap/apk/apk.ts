// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'

import { fingerprint, sha256 } from '../../../scripts/digest.ts'
import { remembered } from '../../../scripts/mirror-memory.ts'
import type { Asked } from '../../../scripts/mirror-memory.ts'
import type { LockedIndex } from '../../../scripts/package-lock/package-lock.ts'
import { PROJECT_ROOT } from '../../../scripts/paths.ts'
import { mirrorOf } from '../../distro.ts'
import { apkPackages } from '../../packages.ts'
import type { BasePlan, PlanRequest } from '../plan.ts'
import { checkIndexNames, checkInstalled, packagesDigest } from '../locked-guest.ts'
import { bootstrapApk } from './bootstrap.ts'
import type { ApkTree } from './bootstrap.ts'
import { parseDependency } from './dependency.ts'
import { parseExtra, repositoryLine } from './extra.ts'
import { fetchApkIndex, parseIndex } from './index.ts'
import type { ApkPackage, Repository } from './index.ts'
import { checkApkIndexes, keepIndex, lockedChoice, resolveApk } from './locked.ts'
import type { UsedIndex } from './locked.ts'
import { resolvePackages } from './resolve.ts'
import { pemOf, readKeys } from './signature.ts'
import type { Keys } from './signature.ts'

/** The packages that were chosen when the mirror was last asked. */
interface Resolved extends Asked {
  readonly indexes: readonly UsedIndex[]
  readonly packages: readonly { readonly fields: readonly string[]; readonly repository: Repository }[]
}

/** Plan a base tree of a distro with apk: its packages are chosen here, not when it is made. */
export async function planApk(request: PlanRequest): Promise<BasePlan> {
  const { settings, choice, cacheDir } = request
  const packages = [...request.packages, ...request.extra]
  const { distro, release, arch } = choice
  const apkArch = distro.arches[arch] ?? arch
  const repositoriesOf = (mirror: string): string[] =>
    settings.REPO_COMPONENTS.map((component) => `${mirror}/${release.path ?? release.name}/${component}`)
  const extra = settings.REPO_EXTRA.map(parseExtra).filter((one) => one !== undefined)
  const own = repositoriesOf(settings.REPO_URL || mirrorOf(distro, arch)).map((url): Repository => ({ url }))
  const repositories = [...own, ...extra]
  const keys: Keys = new Map([
    ...(settings.REPO_KEYRING === ''
      ? readKeys(join(PROJECT_ROOT, 'rootfs-builder', distro.keyring), distro.name)
      : readKeys(settings.REPO_KEYRING, 'REPO_KEYRING')),
    ...(settings.REPO_KEY === '' ? [] : readKeys(settings.REPO_KEY, 'REPO_KEY')),
  ])
  const { locked } = request
  if (locked !== undefined) {
    // A line names the mirror, which is the lock's own.
    checkIndexNames(locked, [...repositoriesOf(locked.guest.mirror), ...extra.map(repositoryLine)])
  }
  const byLock = locked === undefined ? undefined : lockedChoice(locked, packages)
  const resolved =
    locked === undefined
      ? await resolve({
          repositories,
          arch: apkArch,
          keys,
          world: packages,
          cacheDir,
          refresh: settings.REFRESH,
        })
      : { checkedAtMs: 0, indexes: locked.guest.indexes.map(usedIndex), packages: [] }
  const chosen =
    byLock?.chosen ??
    resolved.packages.flatMap(({ fields, repository }) => parseIndex(fields.join('\n'), repository))
  const epochSeconds = Math.max(0, ...chosen.map(({ builtSeconds }) => builtSeconds))
  const guestSources = [...repositoriesOf(mirrorOf(distro, arch)), ...extra.map(repositoryLine)]
  return {
    inputs: {
      arch: apkArch,
      world: packages,
      // Whichever mirror serves them and whoever's key proves them: the digests say what they are.
      packages: chosen.map(({ name, version, checksum }) => `${name}-${version} ${checksum}`),
      repositories: guestSources,
      // These go into the guest.
      keys: pemOf(keys).map(([name, pem]) => `${name} ${sha256(pem)}`),
      ...(locked === undefined ? {} : { locked: packagesDigest(locked.guest.packages) }),
    },
    code: ['rootfs-builder/bootstrap', 'rootfs-builder/bootstrap/apk'],
    tools: ['tar'],
    epochSeconds,
    checkedAtMs: resolved.checkedAtMs,
    packages,
    indexes: resolved.indexes.map(({ url, sha256: digest, signer }) => ({ url, sha256: digest, signer })),
    skipped: [],
    guestSources,
    bootstrap: async (targetDir, tarFile, options) => {
      if (locked !== undefined) await checkApkIndexes(locked.guest, keys, locked.places)
      const tree: ApkTree = {
        ...{
          chosen,
          keys,
          arch,
          apkArch,
          world: packages,
          repositories: guestSources,
          epochSeconds,
          cacheDir,
        },
        ...(byLock === undefined ? {} : { locked: byLock.files }),
      }
      await bootstrapApk(tree, targetDir, tarFile, options)
      if (locked !== undefined) checkInstalled(locked, apkPackages({ root: targetDir }))
    },
    installed: apkPackages,
    ...(locked === undefined
      ? { resolve: ({ known }) => resolveApk(chosen, resolved.indexes, { keys, cacheDir, known }) }
      : { locked: locked.guest.packages }),
  }
}

function usedIndex({ url, sha256: digest, signers, archive }: LockedIndex): UsedIndex {
  return { url, sha256: digest, signer: signers.join(' '), repository: { url: archive } }
}

interface ResolveRequest {
  readonly repositories: readonly Repository[]
  readonly arch: string
  readonly keys: Keys
  readonly world: readonly string[]
  readonly cacheDir: string
  readonly refresh: 'daily' | 'always' | 'never'
}

/** The chosen packages: those of the cache while they are fresh enough, else by the index of today. */
async function resolve(request: ResolveRequest): Promise<Resolved> {
  const { repositories, arch, keys, world, cacheDir, refresh } = request
  const key = fingerprint({
    repositories: repositories.map(repositoryLine),
    arch,
    world,
    keys: pemOf(keys),
    // Another one when more is remembered.
    layout: 2,
  })
  const nowMs = Date.now()
  return remembered({ cacheDir, key, refresh, nowMs }, async () => {
    const indexes = await Promise.all(repositories.map((repository) => fetchApkIndex(repository, arch, keys)))
    for (const index of indexes) await keepIndex(index, cacheDir)
    const all: ApkPackage[] = indexes.flatMap((index) => index.packages)
    const chosen = resolvePackages(world.map(parseDependency), all)
    return {
      checkedAtMs: nowMs,
      indexes: indexes.map(({ url, sha256: digest, signer }, number) => ({
        ...{ url, sha256: digest, signer },
        repository: repositories[number] ?? { url },
      })),
      packages: chosen.map(({ fields, repository }) => ({ fields, repository })),
    }
  })
}
