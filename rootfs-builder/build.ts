// SPDX-License-Identifier: Apache-2.0
import type { Settings } from '../scripts/settings.ts'
import type { TreeEntry } from '../scripts/tree.ts'
import type { Workspace } from '../scripts/workspace.ts'
import type { BasePlan } from './bootstrap/plan.ts'
import type { Choice } from './distros.ts'
import type { RootfsInputs } from './inputs.ts'
import type { ProvisionContext } from './provision/context.ts'

/** What a rootfs is made with. */
export interface Build {
  readonly settings: Settings
  readonly choice: Choice
  readonly workspace: Workspace
  readonly plan: BasePlan
  readonly output: string
  readonly logFile: string
}

/** What names a rootfs. */
export interface Whole {
  readonly inputs: RootfsInputs
  readonly fingerprint: string
}

/** The rootfs to make. */
export interface Wanted {
  /** Fingerprint of the base tree. */
  readonly base: string
  /** Known when its agent is compiled. */
  readonly whole: Promise<Whole>
  /** Entries of the rootfs that is there, when it is ours to change. */
  readonly unedited: readonly TreeEntry[] | undefined
  readonly title: string
  readonly startMs: number
  readonly context: Pick<ProvisionContext, 'agent' | 'version' | 'epochSeconds'>
}
