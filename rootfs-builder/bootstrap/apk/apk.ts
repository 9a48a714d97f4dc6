// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'

import { fingerprint, sha256 } from '../../../scripts/digest.ts'
import { remembered } from '../../../scripts/mirror-memory.ts'
import type { Asked } from '../../../scripts/mirror-memory.ts'
import { PROJECT_ROOT } from '../../../scripts/paths.ts'
import { mirrorOf } from '../../distro.ts'
import { apkPackages } from '../../packages.ts'
import type { BasePlan, PlanRequest } from '../plan.ts'
import { bootstrapApk } from './bootstrap.ts'
import { parseDependency } from './dependency.ts'
import { parseExtra, repositoryLine } from './extra.ts'
import { fetchApkIndex, parseIndex } from './index.ts'
import type { ApkPackage, Repository } from './index.ts'
import { resolvePackages } from './resolve.ts'
import { pemOf, readKeys } from './signature.ts'
import type { Keys } from './signature.ts'

/** The packages that were chosen when the mirror was last asked. */
interface Resolved extends Asked {
  readonly indexes: readonly { readonly url: string; readonly sha256: string; readonly signer: string }[]
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
  const resolved = await resolve({
    repositories,
    arch: apkArch,
    keys,
    world: packages,
    cacheDir,
    refresh: settings.REFRESH,
  })
  const chosen = resolved.packages.flatMap(({ fields, repository }) =>
    parseIndex(fields.join('\n'), repository),
  )
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
    },
    code: ['rootfs-builder/bootstrap', 'rootfs-builder/bootstrap/apk'],
    tools: ['tar'],
    epochSeconds,
    checkedAtMs: resolved.checkedAtMs,
    packages,
    indexes: resolved.indexes.map((index) => ({ ...index })),
    skipped: [],
    guestSources,
    bootstrap: (targetDir, tarFile, options) =>
      bootstrapApk(
        { chosen, keys, arch, apkArch, world: packages, repositories: guestSources, epochSeconds, cacheDir },
        targetDir,
        tarFile,
        options,
      ),
    installed: apkPackages,
  }
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
  })
  const nowMs = Date.now()
  return remembered({ cacheDir, key, refresh, nowMs }, async () => {
    const indexes = await Promise.all(repositories.map((repository) => fetchApkIndex(repository, arch, keys)))
    const all: ApkPackage[] = indexes.flatMap((index) => index.packages)
    const chosen = resolvePackages(world.map(parseDependency), all)
    return {
      checkedAtMs: nowMs,
      indexes: indexes.map(({ url, sha256, signer }) => ({ url, sha256, signer })),
      packages: chosen.map(({ fields, repository }) => ({ fields, repository })),
    }
  })
}
