// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'

import { resolveIndex } from '../../scripts/apt-index.ts'
import { PROJECT_ROOT } from '../../scripts/paths.ts'
import { mirrorOf, suitesOf } from '../distro.ts'
import { dpkgPackages } from '../packages.ts'
import { aptEpochSeconds, aptInputs, bootstrapApt, sourceLines } from './apt.ts'
import type { AptPlan } from './apt.ts'
import type { BaseIdentity, BasePlan, LowerPlan, PlanRequest } from './plan.ts'

/** Plan a base tree of a distro with apt. */
export async function planApt({
  settings,
  choice,
  packages,
  extra,
  cacheDir,
}: PlanRequest): Promise<BasePlan> {
  const { distro, release, arch } = choice
  const own = mirrorOf(distro, arch)
  const keyring = settings.REPO_KEYRING || join(PROJECT_ROOT, 'rootfs-builder', distro.keyring)
  const index = await resolveIndex({
    suites: suitesOf(distro, release, settings.REPO_URL || own),
    keyring,
    cacheDir,
    refresh: settings.REFRESH,
    nowMs: Date.now(),
  })
  const plan: AptPlan = {
    arch,
    debianArch: distro.arches[arch] ?? arch,
    suite: release.name,
    components: settings.REPO_COMPONENTS,
    packages,
    extra,
    keyring,
    keepDocs: settings.KEEP_DOCS,
    index,
  }
  const used = new Set(index.suites.map(({ suite }) => suite))
  const guestSources = sourceLines(
    suitesOf(distro, release, own).filter(({ suite }) => used.has(suite)),
    plan.components,
  )
  const identity = (of: AptPlan): BaseIdentity => ({
    inputs: aptInputs(of),
    code: ['rootfs-builder/bootstrap'],
    tools: ['mmdebstrap'],
    epochSeconds: aptEpochSeconds(of),
  })
  // Another package starts from the tree of the distro's own set.
  const below = { ...plan, extra: [] }
  const lower: LowerPlan = {
    ...identity(below),
    store: (tarFile, options) => bootstrapApt(below, undefined, tarFile, options),
  }
  return {
    ...identity(plan),
    checkedAtMs: index.checkedAtMs,
    packages: [...packages, ...extra],
    indexes: index.suites.map((suite) => ({ ...suite })),
    skipped: index.skipped,
    guestSources,
    ...(extra.length === 0 ? {} : { lower }),
    bootstrap: (targetDir, tarFile, options) => bootstrapApt(plan, targetDir, tarFile, options),
    installed: dpkgPackages,
  }
}
