// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { userInfo } from 'node:os'

import { BuildError, errnoOf } from './errors.ts'

/**
 * Command prefix that puts what follows into mount and process namespaces of its own.
 *
 * When the step dies, however it dies, the kernel ends the whole family (setpriv's parent-death
 * signal reaches unshare, unshare's --kill-child the rest), and with the last process its mounts go.
 */
export const PRIVATE_NAMESPACE: readonly string[] = [
  ['setpriv', '--pdeathsig', 'KILL', '--'],
  ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--'],
  // mmdebstrap sends a hang-up to its whole process group when it fails, and that was make's and the shell's.
  ['setsid', '--'],
].flat()

/** Command prefix that makes the calling user root over its own subordinate ids. */
export const USER_NAMESPACE: readonly string[] = ['unshare', '--user', '--map-root-user', '--map-auto', '--']

/** True when this process may give files to other owners: real root, or root of a user namespace. */
export function isRoot(): boolean {
  return process.geteuid?.() === 0
}

/** Ids a distro's packages may own files with, without root: Debian policy reserves up to 65534. */
const NEEDED_IDS = 65535

/**
 * Explain why this user cannot have a user namespace with several owners.
 *
 * @throws BuildError E_PERMISSION naming the missing thing and the command that grants it
 */
export function explainNoNamespace(detail: string): never {
  const { username } = userInfo()
  for (const file of ['/etc/subuid', '/etc/subgid']) {
    if (subordinateIds(file, username) >= NEEDED_IDS) continue
    const option = file === '/etc/subuid' ? '--add-subuids' : '--add-subgids'
    throw new BuildError(
      'E_PERMISSION',
      `${file}: user ${username} has no range of ${String(NEEDED_IDS)} ids`,
      {
        because: ['a rootfs has files of several owners; without root they come from this range'],
        hint: `sudo usermod ${option} 100000-165535 ${username}`,
      },
    )
  }
  const restricted = readNumber('/proc/sys/kernel/apparmor_restrict_unprivileged_userns') === 1
  if (restricted) {
    throw new BuildError('E_PERMISSION', 'AppArmor on this host forbids user namespaces to normal users', {
      because: [detail],
      hint: 'sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0    or build with sudo -E make',
    })
  }
  if (readNumber('/proc/sys/kernel/unprivileged_userns_clone') === 0) {
    throw new BuildError('E_PERMISSION', 'this host forbids user namespaces to normal users', {
      hint: 'sudo sysctl kernel.unprivileged_userns_clone=1    or build with sudo -E make',
    })
  }
  throw new BuildError('E_PERMISSION', 'no user namespace could be made', {
    because: [detail],
    hint: 'sudo -E make …    builds as root instead',
  })
}

function subordinateIds(file: string, username: string): number {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0
    throw error
  }
  const rows = text.split('\n').map((line) => line.split(':'))
  const counts = rows
    .filter(([name]) => name === username || name === String(process.getuid?.() ?? -1))
    .map(([, , count]) => Number(count))
  return Math.max(0, ...counts)
}

function readNumber(file: string): number | undefined {
  try {
    return Number(readFileSync(file, 'utf8'))
  } catch {
    // The file exists only on kernels that have the switch.
    return undefined
  }
}
