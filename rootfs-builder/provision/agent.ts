// SPDX-License-Identifier: Apache-2.0

import { elfArch } from '../../scripts/elf.ts'
import { BuildError } from '../../scripts/errors.ts'
import type { BundledAgent } from '../agent/build.ts'
import { copyIn, hostPath, isExecutable, move, overlay } from '../guest.ts'
import { installArchive } from './archives.ts'
import type { ProvisionContext } from './context.ts'

/** Where the guest's agent comes from. */
export type AgentSource =
  /** The small agent of this project, when the user named none. */
  | ({ readonly kind: 'bundled' } & BundledAgent)
  | { readonly kind: 'file'; readonly file: string; readonly sha256: string }
  /** An archive with the agent, and its units when it has any. */
  | { readonly kind: 'archive'; readonly file: string; readonly sha256: string }
  /** What `make install` of the agent's repository laid into a folder. */
  | { readonly kind: 'built'; readonly folder: string; readonly url: string; readonly commit: string }
  /** The rootfs has one already. */
  | { readonly kind: 'present' }

/** Install the agent in /usr/bin, or as /sbin/init when it is PID 1. */
export async function installAgent(context: ProvisionContext): Promise<void> {
  const { guest, settings, agent } = context
  const path = `usr/bin/${settings.AGENT_BIN}`
  if (agent.kind === 'bundled') copyIn(guest, (await agent.program).file, path, 0o755)
  if (agent.kind === 'file') copyIn(guest, agent.file, path, 0o755)
  if (agent.kind === 'archive') await installArchive(context, 'AGENT_TARBALL', agent.file)
  if (agent.kind === 'built') overlay(guest, agent.folder)
  if (agent.kind === 'present') return
  if (settings.AGENT_INIT && isExecutable(guest, path)) move(guest, path, 'sbin/init')
  checkAgent(context)
}

function checkAgent({ guest, settings, agent, arch }: ProvisionContext): void {
  const path = settings.AGENT_INIT ? 'sbin/init' : `usr/bin/${settings.AGENT_BIN}`
  if (!isExecutable(guest, path)) {
    throw new BuildError('E_INPUT', `/${path}: no such program after the agent was installed`, {
      because: [`agent: ${describeAgent(agent)}`],
      hint: 'AGENT_BIN names the program the agent is installed as in /usr/bin',
    })
  }
  const found = elfArch(hostPath(guest, path))
  // A script is no ELF file; its interpreter is the guest's own.
  if (found === undefined || found === arch) return
  throw new BuildError('E_INPUT', `/${path}: the agent is for ${found}, the guest is ${arch}`, {
    because: [`agent: ${describeAgent(agent)}`],
    hint: 'give an agent that is built for ARCH',
  })
}

/** The agent's origin in one line. */
export function describeAgent(agent: AgentSource): string {
  switch (agent.kind) {
    case 'bundled':
      return 'the bundled agent'
    case 'file':
    case 'archive':
      return agent.file
    case 'built':
      return `${agent.url} at ${agent.commit}`
    case 'present':
      return 'what the rootfs has'
  }
}
