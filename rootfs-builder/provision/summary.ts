// SPDX-License-Identifier: Apache-2.0
import { writeText } from '../guest.ts'
import type { ProvisionContext } from './context.ts'

/**
 * Write the summary that Kata's tools read from the guest, in their format 0.0.2.
 *
 * Source: kata-collect-data, which shows it; fields and order are upstream's.
 */
export function writeSummary(context: ProvisionContext): void {
  const { guest, settings, base, arch, agent, version, epochSeconds } = context
  const extra = [...settings.EXTRA_PKGS].sort()
  const requested = (base?.packages ?? []).filter((name) => !extra.includes(name)).sort()
  const agentUrl = agent.kind === 'built' ? agent.url : ''
  const agentName = settings.AGENT_INIT ? 'init' : settings.AGENT_BIN
  const lines = [
    '---',
    'osbuilder:',
    `  url: ${text('')}`,
    `  version: ${text(version)}`,
    `rootfs-creation-time: ${text(new Date(epochSeconds * 1000).toISOString())}`,
    `description: ${text('osbuilder rootfs')}`,
    `file-format-version: ${text('0.0.2')}`,
    `architecture: ${text(arch)}`,
    'base-distro:',
    `  name: ${text(base?.distro.title ?? '')}`,
    `  version: ${text(base === undefined ? '' : base.release.name)}`,
    '  packages:',
    ...packageList('default', requested),
    ...packageList('extra', extra),
    'agent:',
    `  url: ${text(agentUrl)}`,
    `  name: ${text(agentName)}`,
    `  version: ${text(agent.kind === 'built' ? agent.commit : version)}`,
    `  agent-is-init-daemon: ${text(settings.AGENT_INIT ? 'yes' : 'no')}`,
  ]
  writeText(guest, 'var/lib/osbuilder/osbuilder.yaml', `${lines.join('\n')}\n`)
}

function packageList(name: string, packages: readonly string[]): string[] {
  if (packages.length === 0) return [`    ${name}: []`]
  return [`    ${name}:`, ...packages.map((item) => `      - ${text(item)}`)]
}

/** A YAML string in double quotes, which JSON's are too. */
function text(value: string): string {
  return JSON.stringify(value)
}
