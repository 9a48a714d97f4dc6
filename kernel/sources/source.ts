// SPDX-License-Identifier: Apache-2.0
import type { LockedKernel } from '../../scripts/package-lock/package-lock.ts'
import type { Settings } from '../../scripts/settings.ts'
import type { Workspace } from '../../scripts/workspace.ts'

/** Settings that choose the sources. */
export const SOURCE_SETTINGS = [
  'KERNEL_SOURCE',
  'KERNEL_VERSION',
  'KERNEL_MIRROR',
  'KERNEL_KEYRING',
  'KERNEL_REPO',
  'KERNEL_TAG',
  'KERNEL_TREE',
  'DISTRO',
  'OS_VERSION',
  'REPO_URL',
  'REPO_KEYRING',
  'REFRESH',
  'LOCK_FILE',
  'VENDOR_DIR',
  'OFFLINE',
] as const

export interface SourceRequest {
  readonly settings: Readonly<Pick<Settings, (typeof SOURCE_SETTINGS)[number]>>
  readonly workspace: Workspace
  readonly logFile: string
}

/** Where sources are from, exactly. */
export type SourceFacts = Pick<LockedKernel, 'file' | 'git' | 'signers' | 'indexes'>

/** Sources that are known exactly, and perhaps not downloaded yet. */
export interface ResolvedSource {
  /** What they are, in a few words. */
  readonly title: string
  /** Equal for equal sources: digests, commits. */
  readonly identity: Readonly<Record<string, string>>
  /** True when a later version of the same folder keeps the times of files that did not change. */
  readonly keepsTimes: boolean
  /** Download what is missing and put the tree into an empty folder. */
  readonly unpack: (folder: string) => Promise<void>
  /** What a lock says of them; absent for sources of this machine, and for those that a lock named. */
  readonly facts?: () => Promise<SourceFacts>
}
