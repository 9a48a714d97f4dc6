// SPDX-License-Identifier: Apache-2.0
import { basename } from 'node:path'

import { BuildError } from '../scripts/errors.ts'
import { openLock } from '../scripts/package-lock/package-lock.ts'
import type { LockedAgent } from '../scripts/package-lock/package-lock.ts'
import type { Settings } from '../scripts/settings.ts'

/** True for the agent that the settings ask for. */
export function isAgent(
  { repo, version }: LockedAgent,
  settings: Pick<Settings, 'AGENT_REPO' | 'AGENT_VERSION'>,
): boolean {
  return repo === settings.AGENT_REPO && version === settings.AGENT_VERSION
}

/**
 * The locked agent that AGENT_REPO asks for; undefined without a lock, and for agents that are no source.
 *
 * @throws BuildError E_CONFIG when there is a lock that does not cover it
 */
export function lockedAgent(settings: Settings): LockedAgent | undefined {
  if (settings.AGENT_REPO === '') return undefined
  const open = openLock(settings)
  if (open === undefined) return undefined
  const found = open.lock.agents.find((agent) => isAgent(agent, settings))
  if (found !== undefined) return found
  const { AGENT_REPO: repo, AGENT_VERSION: version } = settings
  const others = open.lock.agents.map((agent) => `${agent.repo} ${agent.version}`.trim())
  throw new BuildError(
    'E_CONFIG',
    `${basename(open.file)}: does not cover the agent ${repo} ${version}`.trim(),
    {
      because: [others.length === 0 ? 'it has no agent' : `it has ${others.join(', ')}`],
      hint: 'make lock    with the same settings adds it; LOCK_FILE=/dev/null builds without a lock',
    },
  )
}
