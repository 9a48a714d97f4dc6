// SPDX-License-Identifier: Apache-2.0
import { exists, makeFolder, readText, writeText } from '../guest.ts'
import type { ProvisionContext } from './context.ts'

/** Distros differ in where they keep these; a rootfs of the user's may be any of them. */
const CONFIGS = ['etc/chrony/chrony.conf', 'etc/chrony.conf']
const UNITS = ['chrony.service', 'chronyd.service']

/** Where chronyd keeps drift and logs; packages leave the second to systemd. */
const FOLDERS = ['var/lib/chrony', 'var/log/chrony']

/** The line above what is ours: what follows it is replaced, so that provisioning twice adds nothing. */
const MARK = '# The clock of the host, through the hypervisor.'

const SOURCE = [
  MARK,
  // The guest has no network of its own when it boots; the hypervisor's clock is always there.
  'refclock PHC /dev/ptp0 poll 3 dpoll -2 offset 0',
  // A guest that was paused may be hours behind: step at any time.
  'makestep 1 -1',
  '',
].join('\n')

/** Take the time from the host's clock, and from no server. Nothing happens where chrony is not installed. */
export function configureChrony({ guest }: ProvisionContext): void {
  for (const config of CONFIGS.filter((path) => exists(guest, path))) {
    const [theirs = ''] = readText(guest, config).split(MARK)
    const quiet = theirs.replace(/^\s*((?:server|pool|peer|refclock|makestep|sourcedir)\s)/gm, '#$1')
    writeText(guest, config, `${quiet.trimEnd()}\n\n${SOURCE}`)
  }
  for (const unit of UNITS) {
    const shipped = [`usr/lib/systemd/system/${unit}`, `lib/systemd/system/${unit}`].find((path) =>
      exists(guest, path),
    )
    if (shipped === undefined) continue
    // systemd mounts over these and fails when one is not there: 226/NAMESPACE, and a clock that drifts.
    for (const folder of FOLDERS) makeFolder(guest, folder, 0o750)
    writeText(guest, `etc/systemd/system/${unit}.d/10-guest.conf`, dropIn(readText(guest, shipped)))
  }
}

/**
 * What the shipped unit must do differently here.
 *
 * Only root may read /dev/ptp0, so chronyd keeps its user; and the root is read-only, so its folders
 * are in memory.
 */
function dropIn(unit: string): string {
  const start = /^ExecStart=(.*)$/m.exec(unit)?.[1] ?? ''
  const asRoot = start.replace(/\s-u\s+\S+/, '').replace(/^!/, '')
  return [
    '[Unit]',
    'ConditionPathExists=/dev/ptp0',
    '',
    '[Service]',
    'ExecStart=',
    `ExecStart=${asRoot} -u root`,
    'User=root',
    'StateDirectory=',
    'LogsDirectory=',
    'TemporaryFileSystem=/var/lib/chrony:mode=0750 /var/log/chrony:mode=0750',
    '',
  ].join('\n')
}
