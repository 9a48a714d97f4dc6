// SPDX-License-Identifier: Apache-2.0
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { bytesOf, evict, findEntry, listCache } from '../scripts/cache.ts'
import { epochSeconds } from '../scripts/epoch.ts'
import { whenFree, withLock } from '../scripts/lock.ts'
import { note, report, seconds, warn } from '../scripts/log.ts'
import { readState } from '../scripts/manifest.ts'
import { PROJECT_ROOT } from '../scripts/paths.ts'
import { readSettings } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import { pullEntries, pushEntries, remoteCache } from '../scripts/remote-cache.ts'
import type { EntryName } from '../scripts/remote-cache.ts'
import { runStep } from '../scripts/step.ts'
import type { StepArguments } from '../scripts/step.ts'
import { openWorkspace, projectVersion, removeLeftovers } from '../scripts/workspace.ts'
import { checkAgentSettings, resolveAgent } from './agent-source.ts'
import { planBase } from './bootstrap/plan.ts'
import type { Build, Wanted, Whole } from './build.ts'
import { checkChoice, choose, distroTable, endOfLifeWarning } from './distros.ts'
import type { Choice } from './distros.ts'
import { protectEdits, refuseForeignFolder } from '../scripts/guard.ts'
import {
  baseFingerprint,
  describeAgent,
  describeAllButAgent,
  describeBase,
  lowerFingerprint,
  rootfsFingerprint,
} from './inputs.ts'
import type { RootfsInputs } from './inputs.ts'
import { makeTree } from './make-tree.ts'
import type { AgentSource } from './provision/agent.ts'
import { checkPulled } from './pulled-entry.ts'
import { tellWhy } from './tell-why.ts'

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
  -w          tell what would be built, and why; nothing is built

Every other setting comes from the environment; "make help" lists them.
`

await runStep({
  name: 'rootfs',
  usage: USAGE,
  valueFlags: ['a', 'o', 'r', 't'],
  switches: ['d', 'l', 'w'],
  needsOwners: true,
  container: { step: 'rootfs', pathFlags: ['r'], positionalPaths: false, outside: ['l', 't'] },
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
  await buildRootfs(settings, choice, given.has('w'))
}

async function buildRootfs(settings: Settings, choice: Choice, isAsked: boolean): Promise<void> {
  const startMs = Date.now()
  const workspace = openWorkspace(settings)
  const output = settings.ROOTFS_DIR || join(workspace.rootfsDest, `${choice.distro.name}_rootfs`)
  refuseForeignFolder(output)
  const logFile = join(workspace.logDir, `rootfs-${choice.distro.name}.log`)
  const warning = endOfLifeWarning(choice, new Date(startMs).toISOString().slice(0, 10))
  if (warning !== undefined) warn(warning)
  const plan = await planBase(settings, choice, workspace.cacheDir)
  if (!isAsked) plan.prepare?.()
  const agent = await resolveAgent(settings, choice.arch, { cacheDir: workspace.cacheDir, logFile })
  const context = {
    agent,
    version: settings.OSBUILDER_VERSION || projectVersion(PROJECT_ROOT),
    epochSeconds: await epochSeconds(settings, () => plan.epochSeconds),
  }
  const { cacheDir } = workspace
  const base = await describeBase(plan, cacheDir)
  const whole = withAgent(describeAllButAgent({ settings, choice, base, ...context }), agent)
  const isCurrent = async (): Promise<boolean> => {
    const state = readState(output)
    return state !== undefined && state.fingerprint === (await whole).fingerprint
  }
  const title = `${choice.distro.name} ${choice.release.name} ${choice.arch}`

  if (isAsked) {
    tellWhy(output, cacheDir, plan, (await whole).inputs)
    return
  }
  if (await isCurrent()) {
    report('ROOTFS', title, 'unchanged')
    return
  }
  let hadBase = true
  const build: Build = { settings, choice, workspace, plan, output, logFile }
  await withLock(workspace, output, 'exclusive', async () => {
    removeLeftovers(workspace)
    if (await isCurrent()) return
    const unedited = await protectEdits(output)
    writeFileSync(logFile, '')
    const wanted: Wanted = {
      base: baseFingerprint({ base }),
      whole,
      unedited,
      title,
      startMs,
      context,
    }
    hadBase = findEntry(cacheDir, 'base', wanted.base) !== undefined
    const packages = await withLock(workspace, cacheDir, 'shared', async () => {
      const remote = remoteCache(settings)
      const entries: EntryName[] = [{ stage: 'base', key: wanted.base }]
      if (remote !== undefined) entries.push({ stage: 'provisioned', key: (await whole).fingerprint })
      await pullEntries(remote, cacheDir, entries, checkPulled)
      const count = await makeTree(build, wanted)
      if (plan.lower !== undefined) {
        entries.push({ stage: 'base', key: await lowerFingerprint(plan.lower, cacheDir) })
      }
      await pushEntries(remote, cacheDir, entries)
      return count
    })
    const size = packages === 0 ? '' : `${String(packages)} packages`
    report('ROOTFS', title, size, seconds(Date.now() - startMs))
  })
  if (!hadBase) {
    await whenFree(workspace, cacheDir, () => {
      evict(listCache(cacheDir), bytesOf(settings.KEEP))
      return Promise.resolve()
    })
  }
  if (agent.kind === 'bundled') {
    note('the guest has the bundled agent, for trying out only; AGENT_SOURCE_BIN names a real one')
  }
}

/** The rootfs is named by all of it, its agent included, which may be compiled until there is a base tree. */
function withAgent(rest: RootfsInputs, agent: AgentSource): Promise<Whole> {
  const whole = describeAgent(agent).then((described) => {
    const inputs = { ...rest, agent: described }
    return { inputs, fingerprint: rootfsFingerprint(inputs) }
  })
  // Who fails before does not wait for it.
  whole.catch(() => undefined)
  return whole
}
