// SPDX-License-Identifier: Apache-2.0
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { withLock } from '../scripts/lock.ts'
import { bytes, note, report, seconds } from '../scripts/log.ts'
import { requireTools } from '../scripts/run.ts'
import { readSettings, select } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import { runStep } from '../scripts/step.ts'
import type { StepArguments } from '../scripts/step.ts'
import { openWorkspace, removeLeftovers } from '../scripts/workspace.ts'
import type { Workspace } from '../scripts/workspace.ts'
import { compile } from './compile.ts'
import { configure } from './configure.ts'
import { checkFragmentSettings } from './fragments.ts'
import { isPublished, kernelFiles, publish } from './outputs.ts'
import { planFingerprint, planInputs, planKernel } from './plan.ts'
import type { KernelPlan } from './plan.ts'
import { checkSourceSettings, resolveSource } from './sources/resolve.ts'
import { SOURCE_SETTINGS } from './sources/source.ts'
import { currentTree, prepareTree } from './tree.ts'
import type { SourceTree, TreeRequest } from './tree.ts'

const USAGE = `
Build the guest kernel: fetch its sources, configure and compile them.

  kernel.js [-s|-c]

  -c  configure only, and check that every symbol took
  -h  show this help
  -s  sources only: fetch, verify, unpack and patch them

Every setting comes from the environment; "make help" lists them.
`

/** What the kernel's make starts, beside the compiler. */
const TOOLS = ['make', 'flex', 'bison', 'bc', 'perl', 'lz4', '/usr/include/gelf.h']

await runStep({
  name: 'kernel',
  usage: USAGE,
  switches: ['s', 'c'],
  needsOwners: false,
  container: { step: 'kernel', pathFlags: [], positionalPaths: false },
  main,
})

async function main(given: StepArguments): Promise<void> {
  const settings = readSettings({}, [checkSourceSettings, checkFragmentSettings])
  const workspace = openWorkspace(settings)
  const plan = await planKernel(settings, workspace)
  await withLock(workspace, join(workspace.workDir, 'linux'), 'exclusive', async () => {
    removeLeftovers(workspace)
    const logFile = join(workspace.logDir, 'kernel-source.log')
    const source = await resolveSource({ settings: select(settings, SOURCE_SETTINGS), workspace, logFile })
    const request: TreeRequest = {
      workspace,
      source,
      variants: plan.variants,
      patchesDir: settings.KERNEL_PATCHES,
      logFile,
    }
    const existing = currentTree(request)
    if (given.has('s')) {
      if (existing === undefined) await prepareTree(request)
      else report('SOURCE', source.title, 'unchanged')
      return
    }
    if (existing !== undefined && (await isUnchanged(plan, existing, request, settings))) {
      report('KERNEL', `${existing.version} ${plan.arch}`, ...plan.variants, 'unchanged')
      return
    }
    requireTools([...TOOLS, `${plan.cross}gcc`, `${plan.cross}ld`])
    const tree = existing ?? (await prepareTree(request))
    await build({ plan, tree, request, settings, workspace, configureOnly: given.has('c') })
  })
}

async function isUnchanged(
  plan: KernelPlan,
  tree: SourceTree,
  { source, workspace }: TreeRequest,
  settings: Settings,
): Promise<boolean> {
  const inputs = await planInputs(plan, source, settings, tree.version, workspace)
  return isPublished(workspace, plan.variants, planFingerprint(inputs))
}

interface Build {
  readonly plan: KernelPlan
  readonly tree: SourceTree
  readonly request: TreeRequest
  readonly settings: Settings
  readonly workspace: Workspace
  readonly configureOnly: boolean
}

async function build({ plan, tree, request, settings, workspace, configureOnly }: Build): Promise<void> {
  const startMs = Date.now()
  writeFileSync(plan.logFile, '')
  const configured = await configure(plan, tree, workspace)
  const symbols = `${String(configured.config.size)} symbols`
  if (configureOnly) {
    report('CONFIG', `${tree.version} ${plan.arch}`, ...plan.variants, symbols, seconds(Date.now() - startMs))
    return
  }
  report('KERNEL', `${tree.version} ${plan.arch}`, ...plan.variants, `compiling, log in ${plan.logFile}`)
  const files = await compile(plan, tree, configured, workspace, settings.DEBUG)
  const inputs = await planInputs(plan, request.source, settings, tree.version, workspace)
  const record = { fingerprint: planFingerprint(inputs), inputs }
  const { release, sizeBytes, hasModules } = await publish(plan, tree, configured, workspace, record)
  report(
    'KERNEL',
    `${release} ${plan.arch}`,
    bytes(sizeBytes),
    `${String(files)} files`,
    seconds(Date.now() - startMs),
  )
  if (hasModules)
    note(
      `its modules: KERNEL_MODULES_DIR=${join(workspace.workDir, `modules-${release}`, 'lib/modules', release)}`,
    )
  if (plan.arch === 'x86_64' && plan.variants.includes('firecracker'))
    note(`Firecracker starts ${kernelFiles(workspace, plan.variants).vmlinux}`)
}
