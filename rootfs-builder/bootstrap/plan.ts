// SPDX-License-Identifier: Apache-2.0
import type { Json } from '../../scripts/digest.ts'
import type { LockPlaces } from '../../scripts/package-lock/locked-file.ts'
import type {
  AskedGuest,
  LockedGuest,
  LockedIndex,
  LockedPackage,
} from '../../scripts/package-lock/package-lock.ts'
import type { Settings } from '../../scripts/settings.ts'
import { selectPackages } from '../distro.ts'
import type { Choice } from '../distros.ts'
import type { Guest } from '../guest.ts'
import type { InstalledPackage } from '../packages.ts'
import { lockedGuest } from './locked-guest.ts'

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
  /** Begin to have what the tree needs first, when it is likely that it must be made. */
  readonly prepare?: () => void
  /**
   * Make the tree.
   *
   * @param targetDir empty folder that gets it
   * @param tarFile gets the same as a tar whose members begin with `./`
   */
  readonly bootstrap: (targetDir: string, tarFile: string, options: BootstrapOptions) => Promise<void>
  /** The packages of such a tree, by its own database. */
  readonly installed: (guest: Guest) => InstalledPackage[] | Promise<InstalledPackage[]>
  /** The packages of the lock that the tree is made of; absent without a lock. */
  readonly locked?: readonly LockedPackage[]
  /** All packages the tree would be made of, for a lock; absent where nothing can be locked, and with a lock. */
  readonly resolve?: (options: ResolveOptions) => Promise<Resolution>
}

export interface ResolveOptions {
  readonly logFile: string
  /** Packages of an older lock, whose digests hold for what is still the same. */
  readonly known: readonly LockedPackage[]
}

/** Every package of a tree, with the signed indexes that name them. */
export interface Resolution {
  readonly indexes: readonly LockedIndex[]
  readonly packages: readonly LockedPackage[]
}

/** What of a lock a tree is made of. */
export interface LockedRequest {
  readonly guest: LockedGuest
  readonly places: LockPlaces
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
  /** Its part of the lock: then no mirror is asked. */
  readonly locked?: LockedRequest
}

/**
 * Decide what the base tree is made of: by the lock when there is one, else by what the mirror says, which
 * is asked as often as REFRESH says.
 *
 * @throws BuildError E_CONFIG when the lock does not cover what is asked for
 */
export async function planBase(settings: Settings, choice: Choice, cacheDir: string): Promise<BasePlan> {
  // Loading what another distro needs would cost every build 20 ms.
  if (settings.BUILD_METHOD === 'dracut') return (await import('./dracut-plan.ts')).planFromHost(settings)
  const { packages, extra, asked } = askedGuest(settings, choice)
  const locked = lockedGuest(settings, asked, cacheDir)
  const request = { settings, choice, packages, extra, cacheDir, ...(locked === undefined ? {} : { locked }) }
  switch (choice.distro.packageManager) {
    case 'apk':
      return (await import('./apk/apk.ts')).planApk(request)
    case 'dnf':
      return (await import('./dnf/dnf.ts')).planDnf(request)
    default:
      return (await import('./apt-plan.ts')).planApt(request)
  }
}

/** What a build asks for, as a lock names it. */
export function askedGuest(
  settings: Settings,
  choice: Choice,
): { readonly packages: readonly string[]; readonly extra: readonly string[]; readonly asked: AskedGuest } {
  const features = { agentInit: settings.AGENT_INIT, seccomp: settings.SECCOMP, selinux: settings.SELINUX }
  const packages = selectPackages(choice.distro, features)
  const extra = [...new Set(settings.EXTRA_PKGS)].filter((name) => !packages.includes(name))
  const { distro, release, arch } = choice
  const asked: AskedGuest = {
    ...{ distro: distro.name, release: release.name, arch, manager: distro.packageManager },
    ...{
      components: settings.REPO_COMPONENTS,
      repositories: settings.DISTRO_REPO ? ['those of this host'] : settings.REPO_EXTRA,
    },
    ...{ asked: packages, extra },
  }
  return { packages, extra, asked }
}
