// SPDX-License-Identifier: Apache-2.0
import { exists, link, writeText } from '../guest.ts'
import type { ProvisionContext } from './context.ts'

const UNITS = 'usr/lib/systemd/system'

/** Opened by an agent at most: every container of a guest shares its limit. Source: fs.nr_open of Linux. */
const MAX_OPEN_FILES = 1048576

/**
 * Have systemd start the agent, in an image and in an initrd alike.
 *
 * The runtime asks for kata-containers.target on the kernel command line of an image and never of an
 * initrd, so the target is also wanted by the one systemd starts with. Units the agent brought stay.
 */
export function installAgentUnits({ guest, settings }: ProvisionContext): void {
  if (settings.AGENT_INIT) return
  const service = `${UNITS}/kata-agent.service`
  const target = `${UNITS}/kata-containers.target`
  if (!exists(guest, service)) writeText(guest, service, serviceUnit(settings.AGENT_BIN))
  if (!exists(guest, target)) writeText(guest, target, TARGET_UNIT)
  link(guest, `/${target}`, 'etc/systemd/system/basic.target.wants/kata-containers.target')
  if (!exists(guest, `${UNITS}/dbus.socket`)) return
  link(guest, `/${UNITS}/dbus.socket`, 'etc/systemd/system/kata-containers.target.wants/dbus.socket')
}

function serviceUnit(agentBin: string): string {
  return `[Unit]
Description=Agent that runs containers for the host
Wants=kata-containers.target

[Service]
Type=simple
StandardOutput=tty
ExecStart=/usr/bin/${agentBin}
LimitNOFILE=${String(MAX_OPEN_FILES)}
# The guest lives as long as its agent.
ExecStop=/bin/sync ; /usr/bin/systemctl --force poweroff
FailureAction=poweroff
# Containers go first when memory is short.
OOMScoreAdjust=-997
`
}

const TARGET_UNIT = `[Unit]
Description=Guest ready for containers
Requires=basic.target tmp.mount kata-agent.service
Wants=chronyd.service
Conflicts=rescue.service rescue.target
After=basic.target rescue.service rescue.target
AllowIsolate=yes
`
