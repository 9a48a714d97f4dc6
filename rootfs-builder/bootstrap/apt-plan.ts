// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'

import { resolveIndex } from '../../scripts/apt-index.ts'
import { PROJECT_ROOT } from '../../scripts/paths.ts'
import { mirrorOf, suitesOf } from '../distro.ts'
import { dpkgPackages } from '../packages.ts'
import { aptEpochSeconds, aptInputs, bootstrapApt, sourceLines } from './apt.ts'
import type { BasePlan, PlanRequest } from './plan.ts'

/** Plan a base tree of a distro with apt. */
export async function planApt({ settings, choice, packages, cacheDir }: PlanRequest): Promise<BasePlan> {
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
  const plan = {
    arch,
    debianArch: distro.arches[arch] ?? arch,
    suite: release.name,
    components: settings.REPO_COMPONENTS,
    packages,
    keyring,
    keepDocs: settings.KEEP_DOCS,
    index,
  }
  const used = new Set(index.suites.map(({ suite }) => suite))
  return {
    inputs: aptInputs(plan),
    code: ['rootfs-builder/bootstrap'],
    tools: ['mmdebstrap'],
    epochSeconds: aptEpochSeconds(plan),
    checkedAtMs: index.checkedAtMs,
    packages,
    indexes: index.suites.map((suite) => ({ ...suite })),
    skipped: index.skipped,
    guestSources: sourceLines(
      suitesOf(distro, release, own).filter(({ suite }) => used.has(suite)),
      plan.components,
    ),
    bootstrap: (targetDir, tarFile, options) => bootstrapApt(plan, targetDir, tarFile, options),
    installed: dpkgPackages,
  }
}
