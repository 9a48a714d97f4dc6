// SPDX-License-Identifier: Apache-2.0
import { empty, exists, list, remove, writeText } from '../guest.ts'
import type { ProvisionContext } from './context.ts'

/** Written by the bootstrap for its own use, or holding times and sizes of the build. */
const LEFT_BY_BOOTSTRAP = [
  'etc/apt/apt.conf.d/99mmdebstrap',
  'etc/dpkg/dpkg.cfg.d/99mmdebstrap',
  'etc/.pwd.lock',
  'var/lib/apt/lists/lock',
  'var/lib/apt/lists/partial',
  'var/lib/dpkg/status-old',
  'var/lib/dpkg/diversions-old',
  'var/lib/dpkg/statoverride-old',
  'var/lib/dpkg/lock',
  'var/lib/dpkg/lock-frontend',
  'var/lib/dpkg/triggers/Lock',
  'var/lib/systemd/catalog/database',
  'var/lib/systemd/random-seed',
]

/** Backups that shadow tools keep of the files they change. */
const ACCOUNT_BACKUPS = ['group-', 'gshadow-', 'passwd-', 'shadow-', 'subgid-', 'subuid-']

/**
 * Remove what tells where and when the tree was built: the host's name and name servers, logs, caches.
 *
 * A rootfs of the user's is left as it is.
 */
export function forgetHost({ guest, base }: ProvisionContext): void {
  if (base === undefined) return
  for (const path of LEFT_BY_BOOTSTRAP) remove(guest, path)
  for (const name of ACCOUNT_BACKUPS) remove(guest, `etc/${name}`)
  // Made when sshd was installed: all guests would have the same, and whoever has one image knows them.
  for (const name of list(guest, 'etc/ssh').filter((key) => /^ssh_host_.*key(\.pub)?$/.test(key)))
    remove(guest, `etc/ssh/${name}`)
  for (const folder of [
    'var/cache/apt',
    'var/cache/debconf',
    'var/cache/ldconfig',
    'var/tmp',
    'tmp',
    'run',
  ]) {
    empty(guest, folder)
  }
  forgetLogs(guest, 'var/log')
  writeText(guest, 'etc/hostname', 'localhost\n')
  writeText(
    guest,
    'etc/hosts',
    ['127.0.0.1 localhost', '::1 localhost ip6-localhost ip6-loopback', 'ff02::1 ip6-allnodes', ''].join(
      '\n',
    ),
  )
  if (exists(guest, 'etc/machine-id')) writeText(guest, 'etc/machine-id', '')
  if (exists(guest, 'etc/apk')) writeText(guest, 'etc/apk/repositories', `${base.sources.join('\n')}\n`)
  if (exists(guest, 'etc/apt')) writeText(guest, 'etc/apt/sources.list', `${base.sources.join('\n')}\n`)
}

/** Programs expect the folders of their logs, with their owners; the logs themselves are the build's. */
function forgetLogs(guest: ProvisionContext['guest'], folder: string): void {
  for (const name of list(guest, folder)) {
    const path = `${folder}/${name}`
    if (list(guest, path).length > 0) forgetLogs(guest, path)
    else if (/\.log(\.\w+)?$|^(btmp|wtmp|lastlog|faillog|README)$/.test(name)) remove(guest, path)
  }
}
