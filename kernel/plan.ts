// SPDX-License-Identifier: Apache-2.0
import { availableParallelism } from 'node:os'
import { join } from 'node:path'

import { ARCHES } from '../scripts/arch.ts'
import type { ArchName } from '../scripts/arch.ts'
import { codeDigest, fingerprint } from '../scripts/digest.ts'
import type { Json } from '../scripts/digest.ts'
import { epochSeconds } from '../scripts/epoch.ts'
import { findTool } from '../scripts/run.ts'
import { hostArch } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import { toolVersion } from '../scripts/tools.ts'
import type { Workspace } from '../scripts/workspace.ts'
import { KERNEL_ARCHES } from './arches.ts'
import type { KernelArch } from './arches.ts'
import { readAsking } from './fragments.ts'
import type { Asking } from './fragments.ts'
import { findPatches } from './patches.ts'
import type { ResolvedSource } from './sources/source.ts'

/** All that decides a kernel, before anything is unpacked. */
export interface KernelPlan {
  readonly arch: ArchName
  readonly kernelArch: KernelArch
  readonly variants: readonly string[]
  /** Prefix of the compiler; empty for the host's own. */
  readonly cross: string
  readonly usesCcache: boolean
  readonly jobs: number
  readonly epochSeconds: number
  readonly asking: Asking
  readonly logFile: string
}

/** Fixed names in `uname -v`: the kernel is the same, whoever built it. */
export const BUILDER = 'osbuilder'

/** The plan that the settings ask for. */
export async function planKernel(settings: Settings, workspace: Workspace): Promise<KernelPlan> {
  const arch = settings.ARCH === 'host' ? hostArch() : settings.ARCH
  const usual = arch === hostArch() ? '' : `${ARCHES[arch].triplet}-`
  const variants = [...new Set(settings.KERNEL_VARIANT)]
  return {
    arch,
    kernelArch: KERNEL_ARCHES[arch],
    variants,
    cross: settings.CROSS_COMPILE || usual,
    usesCcache: findTool('ccache') !== undefined,
    jobs: settings.KERNEL_JOBS ?? availableParallelism(),
    // Without any clock of the user's, the one that every build would have.
    epochSeconds: await epochSeconds(settings, () => 0),
    asking: readAsking(arch, variants, settings.KERNEL_FRAGMENTS),
    logFile: join(workspace.logDir, `kernel-${arch}${suffixOf(variants)}.log`),
  }
}

/** `-firecracker`, `-measured-debug` or nothing: part of names, as upstream has it. */
export function suffixOf(variants: readonly string[]): string {
  return variants.map((name) => `-${name}`).join('')
}

/** What the fingerprint of a kernel covers. */
export async function planInputs(
  plan: KernelPlan,
  source: ResolvedSource,
  settings: Pick<Settings, 'KERNEL_PATCHES'>,
  version: string,
  workspace: Workspace,
): Promise<{ readonly [key: string]: Json }> {
  const tools = [`${plan.cross}gcc`, `${plan.cross}ld`]
  const versions = await Promise.all(tools.map((tool) => toolVersion(tool, workspace.cacheDir)))
  return {
    arch: plan.arch,
    variants: plan.variants,
    source: source.identity,
    title: source.title,
    patches: findPatches(version, plan.variants, settings.KERNEL_PATCHES).map(({ name, sha256 }) => ({
      name,
      sha256,
    })),
    fragments: plan.asking.digest,
    epochSeconds: plan.epochSeconds,
    code: codeDigest(['kernel', 'kernel/sources', 'scripts']),
    tools: Object.fromEntries(tools.map((tool, index) => [tool, versions[index] ?? ''])),
  }
}

/** Arguments that every call of the kernel's make has. */
export function makeArgv(plan: KernelPlan, tree: string, objects: string): string[] {
  const compiler = `${plan.usesCcache ? 'ccache ' : ''}${plan.cross}gcc`
  return [
    ['make', '--no-print-directory', '-C', tree, `O=${objects}`],
    [`ARCH=${plan.kernelArch.make}`, `CROSS_COMPILE=${plan.cross}`, `CC=${compiler}`],
    [`LOCALVERSION=${suffixOf(plan.variants)}`],
  ].flat()
}

/** Environment of every call: one clock and no names of this machine. */
export function makeEnvironment(plan: KernelPlan, workspace: Workspace): Record<string, string> {
  return {
    KBUILD_BUILD_TIMESTAMP: new Date(plan.epochSeconds * 1000).toUTCString(),
    KBUILD_BUILD_USER: BUILDER,
    KBUILD_BUILD_HOST: BUILDER,
    KBUILD_BUILD_VERSION: '1',
    SOURCE_DATE_EPOCH: String(plan.epochSeconds),
    CCACHE_DIR: join(workspace.cacheDir, 'ccache'),
    // What a file includes is taken from the compiler: no preprocessor is run beside it.
    CCACHE_DEPEND: '1',
  }
}

/** Where the objects of a plan are: kept, so that a change compiles only what it touches. */
export function objectsFolder(plan: KernelPlan, workspace: Workspace): string {
  return join(workspace.workDir, 'kernel', `${plan.arch}${suffixOf(plan.variants)}`)
}

/** Digest of the inputs. */
export function planFingerprint(inputs: { readonly [key: string]: Json }): string {
  return fingerprint(inputs)
}
