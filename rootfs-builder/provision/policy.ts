// SPDX-License-Identifier: Apache-2.0
import { basename } from 'node:path'

import { copyIn, link } from '../guest.ts'
import type { ProvisionContext } from './context.ts'

const FOLDER = 'etc/kata-opa'
const DEFAULT_NAME = 'default-policy.rego'

/** Install the policy that the agent enforces, under its own name and the one the agent reads. */
export function installPolicy({ guest, settings }: ProvisionContext): void {
  if (!settings.AGENT_POLICY) return
  const name = basename(settings.AGENT_POLICY_FILE)
  copyIn(guest, settings.AGENT_POLICY_FILE, `${FOLDER}/${name}`, 0o644)
  if (name !== DEFAULT_NAME) link(guest, name, `${FOLDER}/${DEFAULT_NAME}`)
}
