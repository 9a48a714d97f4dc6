// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { basename, join } from 'node:path'

import { sha256File } from '../scripts/digest.ts'
import { BuildError } from '../scripts/errors.ts'
import { note, report, seconds } from '../scripts/log.ts'
import { manifestPath, readManifest } from '../scripts/manifest.ts'
import { PROJECT_ROOT } from '../scripts/paths.ts'
import { lastLines } from '../scripts/command-error.ts'
import { requireTools, startBackground } from '../scripts/run.ts'
import { readSettings } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import { runStep } from '../scripts/step.ts'
import type { StepArguments } from '../scripts/step.ts'
import { discard, temporaryFor } from '../scripts/temporary.ts'
import { openWorkspace } from '../scripts/workspace.ts'
import type { Workspace } from '../scripts/workspace.ts'
import { compareArtifacts, compareFolders } from './compare-outputs.ts'
import { describeTree } from './describe-tree.ts'
import type { Difference, Surroundings } from './explain.ts'
import { listContent, listingDigest } from './listing.ts'
import { rootfsInputs, textOf } from './outputs.ts'
import type { Output } from './outputs.ts'
import { prepareSecond, secondArgv } from './second-build.ts'
import type { Disturbances } from './second-build.ts'
import { compareKernels } from './compare-kernels.ts'
import { makerOf } from './explain-kernel.ts'
import { readTree } from '../scripts/tree.ts'

const USAGE = `
Build TARGET a second time, under disturbances, and compare it with the one that is there.

  repro.js

  -h  show this help

TARGET is rootfs, image, initrd or kernel. The second build shares nothing with the first but downloads.
Every setting comes from the environment; "make help" lists them.
`

/** Steps that make a target, in their order. */
const STEPS: Readonly<Record<Settings['TARGET'], readonly (readonly string[])[]>> = {
  rootfs: [['rootfs-builder/rootfs.js']],
  image: [['rootfs-builder/rootfs.js'], ['image-builder/image.js']],
  initrd: [['rootfs-builder/rootfs.js'], ['initrd-builder/initrd.js']],
  kernel: [['kernel/kernel.js']],
}

/** Differences that the error names; all of them are in the log. */
const NAMED = 12

/** Longest time before its manifest that the first build may have begun. Unit: s. */
const FIRST_BUILD = 3600

await runStep({ name: 'repro', usage: USAGE, needsOwners: true, main })

async function main(_: StepArguments): Promise<void> {
  const startMs = Date.now()
  const settings = readSettings()
  const workspace = openWorkspace(settings)
  requireTools(['setpriv', 'unshare', 'bash', 'getfattr'])
  const first = openTarget(settings, outputOf(settings, workspace.workDir, workspace))
  const folder = temporaryFor(join(tmpdir(), 'osbuilder-repro'))
  const logFile = join(workspace.logDir, `repro-${settings.TARGET}.log`)
  try {
    mkdirSync(folder)
    writeFileSync(logFile, '')
    // Real root may become anybody; root of a namespace is somebody already.
    const isRealRoot = readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/)[2] === '4294967295'
    const { disturbances, environment } = await prepareSecond(
      folder,
      settings,
      workspace,
      isRealRoot,
      logFile,
    )
    report('REPRO', `${settings.TARGET} of ${settings.DISTRO}`, `building again, log in ${logFile}`)
    const inputs = rootfsInputs(first.manifest)
    const fixed = {
      SOURCE_DATE_EPOCH: String(Number(first.manifest.inputs['epochSeconds'] ?? 0)),
      ...(textOf(inputs['version']) === '' ? {} : { OSBUILDER_VERSION: textOf(inputs['version']) }),
    }
    for (const step of STEPS[settings.TARGET]) {
      await buildAgain(secondArgv(folder, disturbances, { ...environment, ...fixed }, step), logFile)
    }
    const second = openTarget(settings, outputOf(settings, disturbances.workDir))
    const differences = await compare(first, second, {
      settings,
      workspace,
      disturbances,
      scratchDir: folder,
      around: surroundings(first, workspace, disturbances, startMs),
    })
    if (differences.length > 0) throw await unequal(first, differences, { settings, workspace, logFile })
    report(
      'REPRO',
      basename(first.path),
      `the same twice: sha256 ${await digestOf(first)}`,
      seconds(Date.now() - startMs),
    )
    note(`differed: ${disturbances.words.join('; ')}`)
  } finally {
    discard(folder)
  }
}

/** Where a target's output is, in the workspace or in the folder of a second build. */
function outputOf(settings: Settings, workDir: string, workspace?: Workspace): string {
  switch (settings.TARGET) {
    case 'rootfs':
      return (
        (workspace !== undefined && settings.ROOTFS_DIR) ||
        join(workspace?.rootfsDest ?? workDir, `${settings.DISTRO}_rootfs`)
      )
    case 'image':
      return join(workspace?.imagesDest ?? workDir, 'kata-containers.img')
    case 'initrd':
      return join(workspace?.imagesDest ?? workDir, 'kata-containers-initrd.img')
    case 'kernel':
      return join(workDir, `vmlinuz${settings.KERNEL_VARIANT.map((name) => `-${name}`).join('')}.container`)
  }
}

function openTarget(settings: Settings, path: string): Output {
  const manifest = existsSync(path) ? readManifest(path) : undefined
  if (manifest !== undefined) return { path, manifest }
  throw new BuildError('E_INPUT', `${path}: there is nothing to compare with`, {
    hint: `make TARGET=${settings.TARGET} repro    builds it first`,
  })
}

async function buildAgain(argv: readonly string[], logFile: string): Promise<void> {
  const child = await startBackground(['setpriv', '--pdeathsig', 'KILL', '--', ...argv], {
    logFile,
    wholeEnvironment: true,
  })
  if ((await child.exit) === 0) return
  throw new BuildError('E_COMMAND', 'the second build failed', {
    because: [...lastLines(readFileSync(logFile, 'utf8')), `full log: ${logFile}`],
    hint: 'what fails only under other conditions than the first build depends on them: see the log',
  })
}

function surroundings(
  first: Output,
  workspace: Workspace,
  { workDir, homeDir, projectDir }: Disturbances,
  startMs: number,
): Surroundings {
  const built = Math.ceil(statSync(manifestPath(first.path)).mtimeMs / 1000)
  return {
    firstPaths: [workspace.workDir, homedir(), PROJECT_ROOT],
    secondPaths: [workDir, homeDir, projectDir],
    firstSpan: [built - FIRST_BUILD, built],
    secondSpan: [Math.floor(startMs / 1000), Math.ceil(Date.now() / 1000)],
  }
}

interface Comparison {
  readonly settings: Settings
  readonly workspace: Workspace
  readonly disturbances: Disturbances
  readonly scratchDir: string
  readonly around: Surroundings
}

async function compare(first: Output, second: Output, of: Comparison): Promise<Difference[]> {
  const { settings, workspace, disturbances, around } = of
  if (settings.TARGET === 'kernel') return compareKernels(first, second, disturbances.idShift, around)
  // The manifest tells what was built; the file is asked what is there.
  const isEqual = settings.TARGET !== 'rootfs' && sha256File(first.path) === sha256File(second.path)
  if (isEqual) return []
  const rootfs = (output: Output, found?: Workspace): string =>
    settings.TARGET === 'rootfs'
      ? output.path
      : outputOf({ ...settings, TARGET: 'rootfs' }, disturbances.workDir, found)
  const inRootfs = await compareFolders(
    rootfs(first, workspace),
    rootfs(second),
    disturbances.idShift,
    around,
  )
  if (settings.TARGET === 'rootfs' || inRootfs.length > 0) return inRootfs
  const scratch = join(of.scratchDir, 'compare')
  mkdirSync(scratch)
  return await compareArtifacts(first, second, scratch, around)
}

/** The error that tells every difference, and who made each of the files. */
async function unequal(
  first: Output,
  differences: readonly Difference[],
  { settings, workspace, logFile }: Pick<Comparison, 'settings' | 'workspace'> & { readonly logFile: string },
): Promise<BuildError> {
  const makers = await makersOf(first, settings, workspace)
  const lines = differences.map(({ path, field, first: one, second: two, cause }) => {
    const who = first.manifest.kind === 'kernel' ? makerOf(path) : makers.get(path)
    const made = who === undefined ? '' : `; it is ${who}`
    return `/${path}: ${field}: first ${one || '(none)'}, second ${two || '(none)'}${made}; likely cause: ${cause}`
  })
  writeFileSync(logFile, `\n${lines.join('\n')}\n`, { flag: 'a' })
  const more = lines.length > NAMED ? [`and ${String(lines.length - NAMED)} more: ${logFile}`] : []
  return new BuildError('E_DIGEST', `TARGET=${settings.TARGET}: the second build gave other bytes`, {
    because: [...lines.slice(0, NAMED), ...more],
    hint: 'make the input that differs a part of what is built from, or set it to one value; then make repro again',
  })
}

/** What each file of a guest belongs to, in words. */
async function makersOf(
  first: Output,
  settings: Settings,
  workspace: Workspace,
): Promise<ReadonlyMap<string, string>> {
  if (first.manifest.kind === 'kernel') return new Map()
  const path = outputOf({ ...settings, TARGET: 'rootfs' }, workspace.workDir, workspace)
  const manifest = readManifest(path)
  if (manifest === undefined) return new Map()
  const { inventory } = await describeTree({ path, manifest }, settings, workspace)
  return new Map(
    inventory.components.flatMap(({ kind, name, files }) =>
      files.map((file) => [file.path, kind === 'package' ? `of package ${name}` : `of: ${name}`] as const),
    ),
  )
}

async function digestOf({ path, manifest }: Output): Promise<string> {
  if (manifest.kind !== 'rootfs') return sha256File(path)
  return Promise.resolve(listingDigest(listContent(readTree(path))))
}
