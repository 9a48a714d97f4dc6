// SPDX-License-Identifier: Apache-2.0
import type { Json } from '../../scripts/digest.ts'
import type { Settings } from '../../scripts/settings.ts'
import { selectPackages } from '../distro.ts'
import type { Choice } from '../distros.ts'
import type { Guest } from '../guest.ts'
import type { InstalledPackage } from '../packages.ts'

/** A base tree to be, whichever package manager makes it. */
export interface BasePlan {
  /** All that decides what the tree holds; its fingerprint names the tree in the cache. */
  readonly inputs: { readonly [key: string]: Json }
  /** Folders of the compiled code, and host tools, that decide it too. */
  readonly code: readonly string[]
  readonly tools: readonly string[]
  /** The clock of the tree. Unit: seconds since 1970. */
  readonly epochSeconds: number
  /** When the mirror was last asked. Unit: ms. */
  readonly checkedAtMs: number
  /** The packages that were asked for. */
  readonly packages: readonly string[]
  /** Signed indexes the packages come from, for the manifest. */
  readonly indexes: readonly { readonly [key: string]: Json }[]
  /** Those that a mirror may lack and does. */
  readonly skipped: readonly { readonly suite: string; readonly url: string; readonly why: string }[]
  /** What the guest's own list of mirrors says: the distro's, for ours may be a cache on this machine. */
  readonly guestSources: readonly string[]
  /** The tree this one is made over, which the cache has or gets first. */
  readonly lower?: LowerPlan
  /**
   * Make the tree.
   *
   * @param targetDir empty folder that gets it
   * @param tarFile gets the same as a tar whose members begin with `./`
   */
  readonly bootstrap: (targetDir: string, tarFile: string, options: BootstrapOptions) => Promise<void>
  /** The packages of such a tree, by its own database. */
  readonly installed: (guest: Guest) => InstalledPackage[]
}

/** What names a base tree in the cache. */
export type BaseIdentity = Pick<BasePlan, 'inputs' | 'code' | 'tools' | 'epochSeconds'>

/** A tree that is only stored, for another one to be made over it. */
export interface LowerPlan extends BaseIdentity {
  readonly store: (tarFile: string, options: BootstrapOptions) => Promise<void>
}

export interface BootstrapOptions {
  readonly logFile: string
  readonly verbose: boolean
  /** Folder of the lower tree in the cache, when the plan has one. */
  readonly lowerDir?: string
}

/** What every package manager plans with. */
export interface PlanRequest {
  readonly settings: Settings
  readonly choice: Choice
  /** The distro's own set, and what EXTRA_PKGS adds to it. */
  readonly packages: readonly string[]
  readonly extra: readonly string[]
  readonly cacheDir: string
}

/** Ask the mirror, as often as REFRESH says, and decide what the base tree is made of. */
export async function planBase(settings: Settings, choice: Choice, cacheDir: string): Promise<BasePlan> {
  // Loading what another distro needs would cost every build 20 ms.
  if (settings.BUILD_METHOD === 'dracut') {
    const { planFromHost } = await import('./dracut-plan.ts')
    return planFromHost(settings)
  }
  const features = { agentInit: settings.AGENT_INIT, seccomp: settings.SECCOMP }
  const packages = selectPackages(choice.distro, features)
  const extra = [...new Set(settings.EXTRA_PKGS)].filter((name) => !packages.includes(name))
  const request = { settings, choice, packages, extra, cacheDir }
  if (choice.distro.packageManager === 'apk') {
    const { planApk } = await import('./apk/apk.ts')
    return planApk(request)
  }
  const { planApt } = await import('./apt-plan.ts')
  return planApt(request)
}
