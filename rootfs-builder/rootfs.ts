// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { epochSeconds } from '../scripts/epoch.ts'
import { withLock } from '../scripts/lock.ts'
import { note, report, seconds, warn } from '../scripts/log.ts'
import { readState, writeManifest } from '../scripts/manifest.ts'
import { PROJECT_ROOT } from '../scripts/paths.ts'
import { readSettings } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import { runStep } from '../scripts/step.ts'
import type { StepArguments } from '../scripts/step.ts'
import { discard, temporaryFor, withTemporary } from '../scripts/temporary.ts'
import { listTree, settleTimes } from '../scripts/tree-stamp.ts'
import { openWorkspace, projectVersion, removeLeftovers } from '../scripts/workspace.ts'
import type { Workspace } from '../scripts/workspace.ts'
import { checkAgentSettings, resolveAgent } from './agent-source.ts'
import { resolveIndex } from '../scripts/apt-index.ts'
import { aptEpochSeconds, bootstrapApt, sourceLines, unpackBase } from './bootstrap/apt.ts'
import type { AptPlan } from './bootstrap/apt.ts'
import { selectPackages, suitesOf } from './distro.ts'
import { checkChoice, choose, distroTable, endOfLifeWarning } from './distros.ts'
import type { Choice } from './distros.ts'
import { listingPath, protectEdits, refuseForeignFolder } from './guard.ts'
import type { Guest } from './guest.ts'
import { dpkgPackages } from './packages.ts'
import type { InstalledPackage } from './packages.ts'
import { baseFingerprint, describeInputs, rootfsFingerprint } from './inputs.ts'
import { PROVISION_STEPS } from './provision/steps.ts'
import type { ProvisionContext } from './provision/context.ts'

const USAGE = `
Build a root filesystem: a plain folder that holds a guest.

  rootfs.js [-a VERSION] [-d] [-o VERSION] [-r FOLDER] [DISTRO]
  rootfs.js -l
  rootfs.js -t DISTRO

  -a VERSION  version of the agent to check out (AGENT_VERSION)
  -d          delete systemd units that a micro-VM does without (REMOVE_UNITS)
  -h          show this help
  -l          list the distros
  -o VERSION  version to write into the guest (OSBUILDER_VERSION)
  -r FOLDER   folder of the rootfs (ROOTFS_DIR)
  -t DISTRO   tell how a distro is tested: its init modes and architectures

Every other setting comes from the environment; "make help" lists them.
`

/** Base trees that are kept for other settings; the least recently used go first. */
const KEPT_BASES = 6

await runStep({
  name: 'rootfs',
  usage: USAGE,
  valueFlags: ['a', 'o', 'r', 't'],
  switches: ['d', 'l'],
  needsOwners: true,
  main,
})

async function main(given: StepArguments): Promise<void> {
  if (given.has('l')) {
    process.stdout.write(`${distroTable()}\n`)
    return
  }
  const asked = given.text('t')
  const settings = readSettings(
    {
      AGENT_VERSION: given.text('a'),
      OSBUILDER_VERSION: given.text('o'),
      ROOTFS_DIR: given.text('r'),
      DISTRO: asked ?? given.positional[0],
      ...(given.has('d') ? { REMOVE_UNITS: 'yes' } : {}),
    },
    asked === undefined ? [checkChoice, checkAgentSettings] : [checkChoice],
  )
  const choice = choose(settings)
  if (asked !== undefined) {
    const { initModes, arches } = choice.distro
    process.stdout.write(`init: ${initModes.join(' ')}\narchitectures: ${Object.keys(arches).join(' ')}\n`)
    return
  }
  await buildRootfs(settings, choice)
}

interface Build {
  readonly settings: Settings
  readonly choice: Choice
  readonly workspace: Workspace
  readonly plan: AptPlan
  readonly output: string
  readonly logFile: string
}

async function buildRootfs(settings: Settings, choice: Choice): Promise<void> {
  const startMs = Date.now()
  const workspace = openWorkspace(settings)
  const output = settings.ROOTFS_DIR || join(workspace.rootfsDest, `${choice.distro.name}_rootfs`)
  refuseForeignFolder(output)
  const logFile = join(workspace.logDir, `rootfs-${choice.distro.name}.log`)
  const warning = endOfLifeWarning(choice, new Date(startMs).toISOString().slice(0, 10))
  if (warning !== undefined) warn(warning)
  const plan = await planBase(settings, choice, workspace)
  const agent = await resolveAgent(settings, choice.arch, { cacheDir: workspace.cacheDir, logFile })
  const epoch = await epochSeconds(settings, () => aptEpochSeconds(plan))
  const version = settings.OSBUILDER_VERSION || projectVersion(PROJECT_ROOT)
  const { cacheDir } = workspace
  const inputs = await describeInputs({
    settings,
    choice,
    plan,
    agent,
    epochSeconds: epoch,
    version,
    cacheDir,
  })
  const fingerprint = rootfsFingerprint(inputs)
  const title = `${choice.distro.name} ${choice.release.name} ${choice.arch}`

  if (readState(output)?.fingerprint === fingerprint) {
    report('ROOTFS', title, 'unchanged')
    return
  }
  const build: Build = { settings, choice, workspace, plan, output, logFile }
  await withLock(workspace, output, 'exclusive', async () => {
    removeLeftovers(workspace)
    if (readState(output)?.fingerprint === fingerprint) return
    protectEdits(output)
    writeFileSync(logFile, '')
    await withTemporary(output, async (temporary) => {
      mkdirSync(temporary)
      const guest: Guest = { root: temporary }
      await bootstrap(build, temporary, baseFingerprint(inputs), title)
      const packages = dpkgPackages(guest)
      const scratchDir = temporaryFor(`${output}.scratch`)
      mkdirSync(scratchDir)
      try {
        await provision(build, { guest, agent, version, epochSeconds: epoch, scratchDir })
      } finally {
        discard(scratchDir)
      }
      settleTimes(temporary, epoch, startMs)
      finish(build, temporary, { fingerprint, inputs, packages })
      report('ROOTFS', title, `${String(packages.length)} packages`, seconds(Date.now() - startMs))
    })
  })
  if (agent.kind === 'bundled') {
    note('the guest has the bundled agent, for trying out only; AGENT_SOURCE_BIN names a real one')
  }
}

async function planBase(
  settings: Settings,
  { distro, release, arch }: Choice,
  workspace: Workspace,
): Promise<AptPlan> {
  const mirror = settings.REPO_URL || distro.mirror
  const keyring = settings.REPO_KEYRING || join(PROJECT_ROOT, 'rootfs-builder', distro.keyring)
  const index = await resolveIndex({
    suites: suitesOf(distro, release, mirror),
    keyring,
    cacheDir: workspace.cacheDir,
    refresh: settings.REFRESH,
    nowMs: Date.now(),
  })
  return {
    arch,
    debianArch: distro.arches[arch] ?? arch,
    suite: release.name,
    components: settings.REPO_COMPONENTS,
    packages: selectPackages(
      distro,
      { agentInit: settings.AGENT_INIT, seccomp: settings.SECCOMP },
      settings.EXTRA_PKGS,
    ),
    keyring,
    keepDocs: settings.KEEP_DOCS,
    index,
  }
}

/** Fill the folder with the distro's packages: from the base tree in the cache, made first when there is none. */
async function bootstrap(build: Build, folder: string, baseKey: string, title: string): Promise<void> {
  const { plan, workspace, settings, logFile } = build
  const stored = join(workspace.cacheDir, 'base', `${baseKey}.tar`)
  if (existsSync(stored)) {
    utimesSync(stored, new Date(), new Date())
    await unpackBase(stored, folder)
    return
  }
  report('ROOTFS', title, `installing packages, log in ${logFile}`)
  for (const { suite, why } of plan.index.skipped) note(`suite ${suite} is not used: ${why}`)
  await withTemporary(stored, (tarFile) =>
    bootstrapApt(plan, folder, tarFile, { logFile, verbose: settings.DEBUG }),
  )
  evictBases(dirname(stored))
}

function evictBases(folder: string): void {
  const ages = readdirSync(folder)
    .filter((name) => /^[0-9a-f]{64}\.tar$/.test(name))
    .map((name) => ({ name, usedMs: statSync(join(folder, name)).mtimeMs }))
    .sort((a, b) => b.usedMs - a.usedMs)
  for (const { name } of ages.slice(KEPT_BASES)) rmSync(join(folder, name), { force: true })
}

async function provision(
  { settings, choice, plan, logFile }: Build,
  rest: Pick<ProvisionContext, 'guest' | 'agent' | 'version' | 'epochSeconds' | 'scratchDir'>,
): Promise<void> {
  const official = suitesOf(choice.distro, choice.release, choice.distro.mirror)
  const used = new Set(plan.index.suites.map(({ suite }) => suite))
  const context: ProvisionContext = {
    ...rest,
    settings,
    arch: choice.arch,
    logFile,
    base: {
      distro: choice.distro,
      release: choice.release,
      packages: plan.packages,
      // The guest is pointed at the distro's own mirror: ours may be a cache on this machine.
      sources: sourceLines(
        official.filter(({ suite }) => used.has(suite)),
        plan.components,
      ),
    },
  }
  for (const step of PROVISION_STEPS) await step.run(context)
}

interface Finished {
  readonly fingerprint: string
  readonly inputs: Awaited<ReturnType<typeof describeInputs>>
  readonly packages: readonly InstalledPackage[]
}

function finish(
  { output, plan, choice }: Build,
  temporary: string,
  { fingerprint, inputs, packages }: Finished,
): void {
  const listing = listTree(temporary)
  writeFileSync(listingPath(output), listing.lines.join('\n'))
  writeManifest(
    output,
    temporary,
    {
      format: 'osbuilder-manifest-1',
      kind: 'rootfs',
      name: basename(output),
      fingerprint,
      inputs,
      result: {
        entries: listing.lines.length,
        packages: packages.map((item) => ({ ...item })),
        why: choice.distro.packages.map(({ packages: names, why }) => ({ packages: names, why })),
        suites: plan.index.suites.map((suite) => ({ ...suite })),
        suitesNotUsed: plan.index.skipped.map((suite) => ({ ...suite })),
      },
    },
    listing.stamp,
  )
}
