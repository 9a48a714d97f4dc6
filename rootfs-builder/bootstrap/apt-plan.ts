// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'

import { resolveIndex } from '../../scripts/apt-index.ts'
import type { AptIndex, IndexRequest } from '../../scripts/apt-index.ts'
import { checkAptIndexes } from '../../scripts/package-lock/apt-locked-index.ts'
import type { LockedGuest } from '../../scripts/package-lock/package-lock.ts'
import { PROJECT_ROOT } from '../../scripts/paths.ts'
import { toolVersion } from '../../scripts/tools.ts'
import { mirrorOf, suitesOf } from '../distro.ts'
import { dpkgPackages } from '../packages.ts'
import { aptEpochSeconds, aptInputs, bootstrapApt, sourceLines } from './apt.ts'
import type { AptPlan } from './apt.ts'
import { choosePackages, listsOf, resolveApt } from './apt-resolve.ts'
import { checkIndexNames, checkInstalled } from './locked-guest.ts'
import type { BaseIdentity, BasePlan, LowerPlan, PlanRequest } from './plan.ts'

/** Host tools that decide what the tree holds. */
const TOOLS = ['mmdebstrap'] as const

/** Plan a base tree of a distro with apt. */
export async function planApt(request: PlanRequest): Promise<BasePlan> {
  const { settings, choice, packages, extra, cacheDir, locked } = request
  const { distro, release, arch } = choice
  const own = mirrorOf(distro, arch)
  const keyring = settings.REPO_KEYRING || join(PROJECT_ROOT, 'rootfs-builder', distro.keyring)
  const indexRequest: IndexRequest = {
    suites: suitesOf(distro, release, settings.REPO_URL || own),
    keyring,
    debianArch: distro.arches[arch] ?? arch,
    cacheDir,
    refresh: settings.REFRESH,
    nowMs: Date.now(),
  }
  if (locked !== undefined)
    checkIndexNames(
      locked,
      indexRequest.suites.map(({ suite }) => suite),
    )
  // A program in Perl, which takes its time: it is asked while the mirror is.
  for (const tool of TOOLS) toolVersion(tool, cacheDir).catch(() => undefined)
  const index = locked === undefined ? await resolveIndex(indexRequest) : lockedIndexes(locked.guest)
  let lists: ReturnType<AptPlan['lists']> | undefined
  let chosen: ReturnType<AptPlan['choose']> | undefined
  const plan: AptPlan = {
    lists: () => (lists ??= listsOf(plan)),
    choose: (options) => (chosen ??= choosePackages(plan, options)),
    arch,
    debianArch: distro.arches[arch] ?? arch,
    suite: release.name,
    components: settings.REPO_COMPONENTS,
    packages,
    extra,
    keepDocs: settings.KEEP_DOCS,
    mergedUsr: release.choosesMergedUsr === true,
    index,
    request: indexRequest,
    ...(locked === undefined ? {} : { locked: { packages: locked.guest.packages, places: locked.places } }),
  }
  const used = new Set(index.suites.map(({ suite }) => suite))
  const guestSources = sourceLines(
    suitesOf(distro, release, own).filter(({ suite }) => used.has(suite)),
    plan.components,
  )
  const identity = (of: AptPlan): BaseIdentity => ({
    inputs: aptInputs(of),
    code: ['rootfs-builder/bootstrap'],
    tools: TOOLS,
    epochSeconds: aptEpochSeconds(of),
  })
  // Another package starts from the tree of the distro's own set.
  const below: AptPlan = { ...plan, extra: [], ...withoutExtra(plan) }
  const lower: LowerPlan = {
    ...identity(below),
    store: (tarFile, options) => bootstrapApt(below, undefined, tarFile, options),
  }
  // What the mirror said this moment may be new, and then all is made anew; unless another machine has it.
  const isNews =
    locked === undefined && index.checkedAtMs === indexRequest.nowMs && settings.REMOTE_CACHE === ''
  return {
    ...identity(plan),
    ...(isNews ? { prepare: () => void plan.lists().catch(() => undefined) } : {}),
    checkedAtMs: index.checkedAtMs,
    packages: [...packages, ...extra],
    indexes: index.suites.map((suite) => ({ ...suite })),
    skipped: index.skipped,
    guestSources,
    ...(extra.length === 0 ? {} : { lower }),
    bootstrap: async (targetDir, tarFile, options) => {
      if (locked !== undefined) await checkAptIndexes(locked.guest, keyring, locked.places)
      await bootstrapApt(plan, targetDir, tarFile, options)
      if (locked !== undefined) checkInstalled(locked, dpkgPackages({ root: targetDir }))
    },
    installed: dpkgPackages,
    ...(locked === undefined
      ? { resolve: (options) => resolveApt(plan, options) }
      : { locked: locked.guest.packages }),
  }
}

/** The indexes as they were when they were locked. */
function lockedIndexes({ indexes }: LockedGuest): AptIndex {
  return {
    checkedAtMs: 0,
    suites: indexes.map(({ name, archive, sha256, dateSeconds = 0, signers }) => ({
      ...{ suite: name, url: archive, sha256, dateSeconds, signers },
    })),
    skipped: [],
  }
}

/** Packages that come with EXTRA_PKGS are no part of the tree below them. */
function withoutExtra({ locked }: AptPlan): Pick<AptPlan, 'locked'> {
  if (locked === undefined) return {}
  return { locked: { ...locked, packages: locked.packages.filter(({ layer }) => layer === undefined) } }
}
