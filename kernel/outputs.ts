// SPDX-License-Identifier: Apache-2.0
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lutimesSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs'
import { basename, join } from 'node:path'

import type { Json } from '../scripts/digest.ts'
import { sha256File } from '../scripts/digest.ts'
import { isCurrent, outputStamp, readManifest, writeManifest } from '../scripts/manifest.ts'
import { run } from '../scripts/run.ts'
import { withTemporary } from '../scripts/temporary.ts'
import { readTree } from '../scripts/tree.ts'
import type { Workspace } from '../scripts/workspace.ts'
import { valueOf } from './config-file.ts'
import type { Configured } from './configure.ts'
import { makeArgv, makeEnvironment, suffixOf } from './plan.ts'
import type { KernelPlan } from './plan.ts'
import type { SourceTree } from './tree.ts'

/** Names of everything that a kernel is published as. */
export interface KernelFiles {
  readonly vmlinuz: string
  readonly vmlinux: string
}

/** Names without a version: those that runtimes are told of. */
export function kernelFiles(workspace: Workspace, variants: readonly string[]): KernelFiles {
  const suffix = suffixOf(variants)
  return {
    vmlinuz: join(workspace.workDir, `vmlinuz${suffix}.container`),
    vmlinux: join(workspace.workDir, `vmlinux${suffix}.container`),
  }
}

/** True when everything that was published for this fingerprint is still there. */
export function isPublished(workspace: Workspace, variants: readonly string[], fingerprint: string): boolean {
  const { vmlinuz } = kernelFiles(workspace, variants)
  if (!isCurrent(vmlinuz, fingerprint)) return false
  const names = readManifest(vmlinuz)?.result['files']
  return Array.isArray(names) && names.every((name) => existsSync(join(workspace.workDir, String(name))))
}

export interface Published {
  /** Such as `6.1.192-firecracker`. */
  readonly release: string
  readonly sizeBytes: number
  readonly hasModules: boolean
}

/** Copy what was compiled to its names in WORKDIR, the manifest with the last of them. */
export async function publish(
  plan: KernelPlan,
  tree: SourceTree,
  { objects, config }: Configured,
  workspace: Workspace,
  record: { readonly fingerprint: string; readonly inputs: { readonly [key: string]: Json } },
): Promise<Published> {
  const release = readFileSync(join(objects, 'include/config/kernel.release'), 'utf8').trim()
  const { vmlinuz, vmlinux } = kernelFiles(workspace, plan.variants)
  const others: [string, string][] = [
    [plan.kernelArch.vmlinux, vmlinux],
    ['.config', join(workspace.workDir, `config-${release}`)],
    ['System.map', join(workspace.workDir, `System.map-${release}`)],
  ]
  for (const [made, output] of others) {
    await withTemporary(output, (temporary) => {
      copyFileSync(join(objects, made), temporary)
      chmodSync(temporary, 0o644)
      return Promise.resolve()
    })
  }
  if (plan.kernelArch.vmlinux === 'vmlinux') await withoutDebugInfo(plan, vmlinux, config.has('DEBUG_INFO'))
  const modules = join(workspace.workDir, `modules-${release}`)
  const hasModules = valueOf(config, 'MODULES') !== 'n'
  if (hasModules) await publishModules(plan, tree, objects, { modules, release, workspace })
  else rmSync(modules, { recursive: true, force: true })
  const files = [vmlinuz, ...others.map(([, output]) => output), ...(hasModules ? [modules] : [])]
  let sizeBytes = 0
  await withTemporary(vmlinuz, (temporary) => {
    copyFileSync(join(objects, plan.kernelArch.vmlinuz), temporary)
    // The linker makes programs of them; nobody starts a kernel so.
    chmodSync(temporary, 0o644)
    sizeBytes = statSync(temporary).size
    const result = {
      arch: plan.arch,
      release,
      files: files.map((file) => basename(file)),
      sizeBytes,
      sha256: sha256File(temporary),
      vmlinuxSha256: sha256File(vmlinux),
      configSha256: sha256File(join(workspace.workDir, `config-${release}`)),
      symbols: [...config.values()].filter((value) => value === 'y' || value === 'm').length,
    }
    const manifest = {
      format: 'osbuilder-manifest-1',
      kind: 'kernel',
      name: basename(vmlinuz),
      ...record,
      result,
    } as const
    writeManifest(vmlinuz, temporary, manifest, outputStamp(temporary))
    return Promise.resolve()
  })
  return { release, sizeBytes, hasModules }
}

/** A monitor loads the whole file; symbols for a debugger stay in the debug variant. */
async function withoutDebugInfo(plan: KernelPlan, vmlinux: string, keep: boolean): Promise<void> {
  if (keep) return
  await withTemporary(vmlinux, async (temporary) => {
    await run([`${plan.cross}strip`, '--strip-all', '-o', temporary, vmlinux], { logFile: plan.logFile })
    chmodSync(temporary, 0o644)
  })
}

interface ModulesPlace {
  readonly modules: string
  readonly release: string
  readonly workspace: Workspace
}

/** The folder that KERNEL_MODULES_DIR takes is `modules-<version>/lib/modules/<version>`. */
async function publishModules(
  plan: KernelPlan,
  tree: SourceTree,
  objects: string,
  { modules, release, workspace }: ModulesPlace,
): Promise<void> {
  await withTemporary(modules, async (temporary) => {
    mkdirSync(temporary)
    const words = [`INSTALL_MOD_PATH=${temporary}`, 'INSTALL_MOD_STRIP=1', 'modules_install']
    await run([...makeArgv(plan, tree.folder, objects), ...words], {
      logFile: plan.logFile,
      env: makeEnvironment(plan, workspace),
    })
    // Links to the sources and objects of this machine.
    for (const name of ['build', 'source'])
      rmSync(join(temporary, 'lib/modules', release, name), { force: true })
    // What is installed has the time of that; the folder is the same whenever it is made.
    for (const { path } of readTree(temporary)) {
      lutimesSync(join(temporary, path), plan.epochSeconds, plan.epochSeconds)
    }
  })
}
