// SPDX-License-Identifier: Apache-2.0
import { list, remove } from '../guest.ts'
import type { ProvisionContext } from './context.ts'

/** Units of systemd that a micro-VM does without: it has no disks to find, no user to log in, no logs to keep. */
const NAMES = [
  'bless-boot',
  'coredump@',
  'fstab-generator',
  'getty-generator',
  'gpt-auto-generator',
  'journal-flush',
  'journald',
  'journald-dev-log',
  'random-seed',
  'timesyncd',
  'tmpfiles-cleanup',
  'tmpfiles-setup',
  'udev-trigger',
  'udevd',
  'udevd-control',
  'udevd-kernel',
  'update-utmp',
]

const UNIT = new RegExp(`^systemd-(${NAMES.join('|')})(\\.(service|socket|timer))?$`)

/** In a tree of Debian 11 /lib is a folder of its own. */
const FOLDERS = [
  ...['usr/lib/systemd/system', 'usr/lib/systemd/system-generators'],
  ...['lib/systemd/system', 'lib/systemd/system-generators'],
  'etc/systemd/system',
]

/**
 * Delete those units and the links to them, only when asked: without journald a distro that runs
 * dbus-broker does not start.
 */
export function removeUnits({ guest, settings }: ProvisionContext): void {
  if (!settings.REMOVE_UNITS) return
  for (const folder of FOLDERS) {
    const inside = list(guest, folder).filter((name) => /\.(wants|requires)$/.test(name))
    for (const place of [folder, ...inside.map((name) => `${folder}/${name}`)]) {
      for (const name of list(guest, place).filter((unit) => UNIT.test(unit)))
        remove(guest, `${place}/${name}`)
    }
  }
}
