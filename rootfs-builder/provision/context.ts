// SPDX-License-Identifier: Apache-2.0
import type { ArchName } from '../../scripts/arch.ts'
import type { Settings } from '../../scripts/settings.ts'
import type { Distro, Release } from '../distro.ts'
import type { Guest } from '../guest.ts'
import type { AgentSource } from './agent.ts'

/** Settings that provisioning reads, and so what a provisioned rootfs depends on. */
export const PROVISION_SETTINGS = [
  'AGENT_BIN',
  'AGENT_INIT',
  'AGENT_POLICY',
  'AGENT_POLICY_FILE',
  'COCO_GUEST_COMPONENTS_TARBALL',
  'CONFIDENTIAL_GUEST',
  'DEBUG',
  'EXTRA_PKGS',
  'GUEST_HOOKS_TARBALL',
  'KEEP_PACKAGE_DB',
  'KERNEL_MODULES_DIR',
  'PAUSE_IMAGE_TARBALL',
  'REMOVE_UNITS',
  'ROOTFS_OVERLAY',
  'SECCOMP',
  'SELINUX',
] as const

/** What a provisioning step may know. It changes the guest and nothing else. */
export interface ProvisionContext {
  readonly guest: Guest
  readonly settings: Readonly<Pick<Settings, (typeof PROVISION_SETTINGS)[number]>>
  /** Absent when a rootfs of the user's is provisioned. */
  readonly base?: {
    readonly distro: Distro
    readonly release: Release
    readonly sources: readonly string[]
    readonly packages: readonly string[]
  }
  readonly arch: ArchName
  readonly agent: AgentSource
  /** Version of this project. */
  readonly version: string
  /** Unit: seconds since 1970. */
  readonly epochSeconds: number
  /** Folder for what is unpacked on the way; removed by the caller. */
  readonly scratchDir: string
  readonly logFile: string
}

/** One thing provisioning does; `name` is the verb of the log. */
export interface ProvisionStep {
  readonly name: string
  readonly run: (context: ProvisionContext) => void | Promise<void>
}
