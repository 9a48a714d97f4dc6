// SPDX-License-Identifier: Apache-2.0
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { BuildError } from '../scripts/errors.ts'
import { agentChanges, guestChanges } from '../scripts/package-lock/lock-diff.ts'
import { withLock } from '../scripts/lock.ts'
import { report } from '../scripts/log.ts'
import { lockToWrite } from '../scripts/package-lock/package-lock.ts'
import type { Lock, LockedAgent, LockedGuest } from '../scripts/package-lock/package-lock.ts'
import { readSettings } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import { runStep } from '../scripts/step.ts'
import type { StepArguments } from '../scripts/step.ts'
import { openWorkspace } from '../scripts/workspace.ts'
import { refuseOffline, saveLock, tellCovered, unlocked } from '../scripts/package-lock/write-lock.ts'
import { checkAgentSettings, commitOf } from './agent-source.ts'
import { differences, nearestGuest } from './bootstrap/locked-guest.ts'
import { askedGuest, planBase } from './bootstrap/plan.ts'
import { mirrorOf } from './distro.ts'
import { checkChoice, choose } from './distros.ts'
import { isAgent } from './locked-agent.ts'

const USAGE = `
Write the packages of a guest, and the commit of its agent, to LOCK_FILE.

  lock.js [-u]

  -h  show this help
  -u  show what would change in a lock that is there; WRITE=yes writes it

Every setting comes from the environment; "make help" lists them.
`

await runStep({ name: 'lock', usage: USAGE, switches: ['u'], needsOwners: false, main })

async function main(given: StepArguments): Promise<void> {
  const settings = readSettings({}, [checkChoice, checkAgentSettings, refuseOffline])
  if (settings.BUILD_METHOD === 'dracut') {
    throw new BuildError(
      'E_CONFIG',
      'BUILD_METHOD=dracut: takes the guest from this host, not from packages',
      {
        hint: 'make lock DISTRO=debian    locks the packages of a distro',
      },
    )
  }
  if (settings.DISTRO_REPO) {
    throw new BuildError('E_CONFIG', "DISTRO_REPO=yes: what this host's repositories have is not locked", {
      hint: "make lock    without it locks packages of the distro's own",
    })
  }
  const choice = choose(settings)
  const workspace = openWorkspace(settings)
  const isUpdate = given.has('u')
  const title = `${choice.distro.name} ${choice.release.name} ${choice.arch}`
  await withLock(workspace, settings.LOCK_FILE, 'exclusive', async () => {
    const lock = lockToWrite(settings.LOCK_FILE)
    const { asked } = askedGuest(settings, choice)
    const current = lock.guests.find((guest) => differences(guest, asked).length === 0)
    const currentAgent = lock.agents.find((agent) => isAgent(agent, settings))
    const isCovered = current !== undefined && (settings.AGENT_REPO === '' || currentAgent !== undefined)
    if (isCovered && !isUpdate) {
      tellCovered(title, settings.LOCK_FILE, `${String(current.packages.length)} packages`)
      return
    }
    const guest =
      current !== undefined && !isUpdate
        ? current
        : await withLock(workspace, workspace.cacheDir, 'shared', () => resolveGuest(lock))
    const agent = await resolveAgentCommit(settings)
    const changes = [
      ...guestChanges(current ?? nearestGuest(lock.guests, asked), guest),
      ...(agent === undefined ? [] : agentChanges(currentAgent, agent)),
    ]
    saveLock(settings, {
      title,
      count: `${String(guest.packages.length)} packages`,
      isUpdate,
      isNew: !isCovered,
      changes,
      lock: {
        ...lock,
        guests: [...lock.guests.filter((one) => one !== current), guest],
        agents: [
          ...lock.agents.filter((one) => one !== currentAgent),
          ...[agent ?? currentAgent ?? []].flat(),
        ],
      },
    })
  })

  async function resolveGuest({ guests }: Lock): Promise<LockedGuest> {
    const logFile = join(workspace.logDir, `lock-${choice.distro.name}.log`)
    writeFileSync(logFile, '')
    report('LOCK', title, 'asking the mirror')
    const plan = await planBase(unlocked(settings), choice, workspace.cacheDir)
    if (plan.resolve === undefined) throw new TypeError(`${choice.distro.packageManager} cannot be locked`)
    const mirror = settings.REPO_URL || mirrorOf(choice.distro, choice.arch)
    const known = guests.flatMap(({ packages }) => packages)
    return { ...askedGuest(settings, choice).asked, mirror, ...(await plan.resolve({ logFile, known })) }
  }
}

async function resolveAgentCommit(settings: Settings): Promise<LockedAgent | undefined> {
  const { AGENT_REPO: repo, AGENT_VERSION: version } = settings
  if (repo === '') return undefined
  return { repo, version, commit: await commitOf(repo, version) }
}
