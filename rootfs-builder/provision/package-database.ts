// SPDX-License-Identifier: Apache-2.0
import { empty, remove } from '../guest.ts'
import type { ProvisionContext } from './context.ts'

/** Folders of dpkg, apt, rpm and apk that only their own tools read. */
const DATABASES = [
  'var/lib/dpkg',
  'var/lib/apt',
  'var/cache/apt',
  'var/cache/debconf',
  'var/lib/rpm',
  'usr/lib/sysimage/rpm',
  'lib/apk/db',
  'usr/lib/apk/db',
  'var/cache/apk',
]

/** Drop the package databases when asked; the manifest beside the rootfs has been told their content. */
export function dropPackageDatabase({ guest, settings, base }: ProvisionContext): void {
  if (settings.KEEP_PACKAGE_DB || base === undefined) return
  for (const folder of DATABASES) {
    empty(guest, folder)
    remove(guest, folder)
  }
}
