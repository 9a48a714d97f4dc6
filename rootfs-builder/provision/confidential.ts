// SPDX-License-Identifier: Apache-2.0
import { exists, readText, writeText } from '../guest.ts'
import type { ProvisionContext } from './context.ts'

const ENTRY = 'tmpfs /run tmpfs nodev,nosuid,size=50% 0 0'

/** Give /run half of the memory: a confidential guest unpacks encrypted images there. */
export function configureConfidential({ guest, settings }: ProvisionContext): void {
  if (!settings.CONFIDENTIAL_GUEST || settings.AGENT_INIT) return
  const fstab = exists(guest, 'etc/fstab') ? readText(guest, 'etc/fstab') : ''
  if (!fstab.split('\n').includes(ENTRY))
    writeText(guest, 'etc/fstab', `${fstab.trimEnd()}\n${ENTRY}\n`.trimStart())
  writeText(
    guest,
    'etc/systemd/system/kata-containers.target.d/10-remount.conf',
    '[Unit]\nRequires=systemd-remount-fs.service\n',
  )
}
