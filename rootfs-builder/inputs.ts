// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'

import { codeDigest, fingerprint, sha256, sha256File } from '../scripts/digest.ts'
import type { Json } from '../scripts/digest.ts'
import { readTree } from '../scripts/tree.ts'
import { select } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import { toolVersion } from '../scripts/tools.ts'
import { AGENT_SETTINGS } from './agent-source.ts'
import type { BaseIdentity } from './bootstrap/plan.ts'
import type { Choice } from './distros.ts'
import type { AgentSource } from './provision/agent.ts'
import { PROVISION_SETTINGS } from './provision/context.ts'

/** Settings that name a file: its content counts, and where it lies does not. */
const FILE_SETTINGS = [
  'AGENT_POLICY_FILE',
  'AGENT_SOURCE_BIN',
  'AGENT_TARBALL',
  'COCO_GUEST_COMPONENTS_TARBALL',
  'GUEST_HOOKS_TARBALL',
  'PAUSE_IMAGE_TARBALL',
] as const

/** Settings that name a folder, whose content counts likewise. */
const FOLDER_SETTINGS = ['ROOTFS_OVERLAY'] as const

/** Settings that change what is shown, not what is made. */
const SHOW_ONLY = new Set<string>(['DEBUG'])

/** Settings that matter when the agent is built from a repository, and else not. */
const REPOSITORY_ONLY = new Set<string>(['AGENT_REPO', 'AGENT_VERSION', 'AGENT_SOURCE_DIR', 'LIBC'])

export interface RootfsInputs {
  readonly [key: string]: Json
  readonly base: Json
}

/** Everything that can change a rootfs, but for its agent, which may be being compiled. */
export function describeAllButAgent(of: {
  readonly settings: Settings
  readonly choice: Choice
  /** See describeBase. */
  readonly base: Json
  readonly agent: AgentSource
  readonly epochSeconds: number
  readonly version: string
}): RootfsInputs {
  const { settings, choice, agent } = of
  const names = [...new Set([...AGENT_SETTINGS, ...PROVISION_SETTINGS])].filter(
    (name) => !SHOW_ONLY.has(name) && (agent.kind === 'built' || !REPOSITORY_ONLY.has(name)),
  )
  const files = Object.fromEntries(
    FILE_SETTINGS.filter((name) => settings[name] !== '').map((name) => [name, sha256File(settings[name])]),
  )
  const plain = Object.fromEntries(
    Object.entries(select(settings, names)).filter(
      ([name]) => ![...FILE_SETTINGS, ...FOLDER_SETTINGS].some((file) => file === name),
    ),
  )
  return {
    base: of.base,
    distro: choice.distro.name,
    release: choice.release.name,
    arch: choice.arch,
    epochSeconds: of.epochSeconds,
    version: of.version,
    settings: plain,
    files,
    modules: folderDigest(settings.KERNEL_MODULES_DIR),
    ...(settings.ROOTFS_OVERLAY === '' ? {} : { overlay: folderDigest(settings.ROOTFS_OVERLAY) }),
    code: codeDigest([
      'rootfs-builder',
      'rootfs-builder/provision',
      ...(choice.distro.packageManager === 'dracut' ? [] : [`rootfs-builder/${choice.distro.name}`]),
    ]),
  }
}

/** Everything that can change a base tree. */
export async function describeBase(plan: BaseIdentity, cacheDir: string): Promise<Json> {
  const tools: Record<string, string> = {}
  for (const tool of plan.tools) tools[tool] = await toolVersion(tool, cacheDir)
  return { ...plan.inputs, epochSeconds: plan.epochSeconds, code: codeDigest(plan.code), tools }
}

/** Key in the cache of a base tree that another one is made over. */
export async function lowerFingerprint(plan: BaseIdentity, cacheDir: string): Promise<string> {
  return fingerprint(await describeBase(plan, cacheDir))
}

/** Key of the base tree in the cache. */
export function baseFingerprint({ base }: Pick<RootfsInputs, 'base'>): string {
  return fingerprint(base)
}

/** Key of the provisioned rootfs. */
export function rootfsFingerprint(inputs: RootfsInputs): string {
  return fingerprint(inputs)
}

/** What of an agent can change a rootfs. Waits for one that is being compiled. */
export async function describeAgent(agent: AgentSource): Promise<Json> {
  switch (agent.kind) {
    case 'bundled':
      return {
        kind: 'bundled',
        sha256: (await agent.program).sha256,
        compiler: agent.compiler,
        source: agent.source,
        note: 'not for production: it gives the host full control of the guest without any check',
      }
    case 'file':
    case 'archive':
      return { kind: agent.kind, sha256: agent.sha256 }
    case 'built':
      return { kind: 'built', url: agent.url, commit: agent.commit }
    case 'present':
      return { kind: 'present' }
  }
}

/** Digest of a folder, content included; undefined when none is named. */
function folderDigest(folder: string): string | undefined {
  if (folder === '') return undefined
  const rows = readTree(folder).map((entry) => {
    const content =
      typeof entry.source === 'string' ? sha256(readFileSync(entry.source)) : (entry.linkTarget ?? '')
    return `${entry.path}\t${entry.mode.toString(8)}\t${content}`
  })
  return sha256(rows.join('\n'))
}
