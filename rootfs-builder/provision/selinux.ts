// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../../scripts/errors.ts'
import { exists, readText } from '../guest.ts'
import type { ProvisionContext } from './context.ts'

const CONFIG = 'etc/selinux/config'

/**
 * Check that a guest with SELINUX=yes has a policy that is switched on, and the labels that belong to it.
 *
 * Without them systemd stops the guest, or starts it without SELinux and says so to nobody.
 */
export function checkSelinux({ guest, settings }: ProvisionContext): void {
  if (!settings.SELINUX) return
  const config = exists(guest, CONFIG) ? readText(guest, CONFIG) : ''
  const value = (name: string): string => new RegExp(`^${name}=(\\S*)`, 'm').exec(config)?.[1] ?? ''
  const mode = value('SELINUX')
  const type = value('SELINUXTYPE')
  const contexts = `etc/selinux/${type}/contexts/files/file_contexts`
  if (mode !== 'enforcing' && mode !== 'permissive') {
    throw new BuildError(
      'E_INPUT',
      `SELINUX=yes: /${CONFIG} of the guest says SELINUX=${mode || '(nothing)'}`,
      {
        hint: 'bring a package or a ROOTFS_OVERLAY with enforcing or permissive in it, or leave SELINUX out',
      },
    )
  }
  if (type === '' || !exists(guest, contexts)) {
    throw new BuildError('E_INPUT', `SELINUX=yes: the guest has no policy: /${contexts} is missing`, {
      hint: 'EXTRA_PKGS=selinux-policy-targeted    brings it on CentOS and Fedora',
    })
  }
}
