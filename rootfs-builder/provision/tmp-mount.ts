// SPDX-License-Identifier: Apache-2.0
import { exists, link, readText, writeText } from '../guest.ts'
import type { ProvisionContext } from './context.ts'

const UNIT = `[Unit]
Description=Temporary files in memory
DefaultDependencies=no
Conflicts=umount.target
Before=local-fs.target umount.target
After=swap.target

[Mount]
What=tmpfs
Where=/tmp
Type=tmpfs
Options=mode=1777,strictatime,nosuid,nodev

[Install]
WantedBy=local-fs.target
`

/** Let systemd mount /tmp in memory: the root is read-only. Debian ships the unit without enabling it. */
export function configureTmpMount({ guest, settings }: ProvisionContext): void {
  if (settings.AGENT_INIT) return
  const installed = ['etc/systemd/system/tmp.mount', 'usr/lib/systemd/system/tmp.mount']
  if (!installed.some((path) => exists(guest, path))) {
    const shipped = 'usr/share/systemd/tmp.mount'
    writeText(guest, 'etc/systemd/system/tmp.mount', exists(guest, shipped) ? readText(guest, shipped) : UNIT)
  }
  const target = exists(guest, 'etc/systemd/system/tmp.mount')
    ? '../tmp.mount'
    : '/usr/lib/systemd/system/tmp.mount'
  link(guest, target, 'etc/systemd/system/local-fs.target.wants/tmp.mount')
}
