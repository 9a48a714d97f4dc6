// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, statSync } from 'node:fs'
import { networkInterfaces, userInfo } from 'node:os'

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

/** Flag that adds a network namespace with nothing in it to those that unshare makes. */
export const WITHOUT_NETWORK = '--net'

/** True when this process sees a network; the addresses of the machine itself are none. */
export function hasNetwork(): boolean {
  return Object.values(networkInterfaces()).some((rows) => rows?.some(({ internal }) => !internal))
}

/** True when this process may give files to other owners: real root, or root of a user namespace. */
export function isRoot(): boolean {
  return process.geteuid?.() === 0
}

/** Ids a distro's packages may own files with, without root: Debian policy reserves up to 65534. */
const NEEDED_IDS = 65535

/** Ids a new range is proposed with, and the lowest it begins at. Source: login.defs(5), SUB_UID_COUNT and SUB_UID_MIN. */
const NEW_RANGE = { count: 65536, least: 100000 } as const

/** What of this host decides whether a normal user gets a namespace with several owners. */
export interface NamespaceFacts {
  readonly username: string
  readonly uid: number
  /** Content of /etc/subuid and /etc/subgid; empty where there is no such file. Source: subuid(5). */
  readonly subuid: string
  readonly subgid: string
  /** Path of newuidmap, and whether it may act for root. */
  readonly newuidmap: { readonly path: string; readonly isSetuid: boolean }
  /** Switches of the kernel; undefined where this one has no such switch. */
  readonly apparmorRestricts: number | undefined
  readonly unprivilegedClone: number | undefined
  readonly maxUserNamespaces: number | undefined
  /** True when the kernel has user namespaces at all. */
  readonly kernelHasThem: boolean
}

/** The facts of this host, for the user who calls. */
export function namespaceFacts(newuidmap: string): NamespaceFacts {
  const uid = process.getuid?.() ?? -1
  return {
    username: usernameOf(uid),
    uid,
    subuid: readWhole('/etc/subuid') ?? '',
    subgid: readWhole('/etc/subgid') ?? '',
    newuidmap: {
      path: newuidmap,
      isSetuid: ((statSync(newuidmap, { throwIfNoEntry: false })?.mode ?? 0) & 0o4000) !== 0,
    },
    apparmorRestricts: readNumber('/proc/sys/kernel/apparmor_restrict_unprivileged_userns'),
    unprivilegedClone: readNumber('/proc/sys/kernel/unprivileged_userns_clone'),
    maxUserNamespaces: readNumber('/proc/sys/user/max_user_namespaces'),
    kernelHasThem: existsSync('/proc/self/ns/user'),
  }
}

/** An id that has no name, as in many containers, may still have ranges by its number. */
function usernameOf(uid: number): string {
  try {
    return userInfo().username
  } catch {
    return String(uid)
  }
}

/**
 * The error for a user without enough subordinate ids, or undefined.
 *
 * unshare takes a range that is too small without a word; the build would fail at the first file of
 * an owner beyond it.
 */
export function missingIds(facts: NamespaceFacts): BuildError | undefined {
  const files = [
    { file: '/etc/subuid', text: facts.subuid, option: '--add-subuids' },
    { file: '/etc/subgid', text: facts.subgid, option: '--add-subgids' },
  ].filter(({ text }) => firstRange(text, facts) < NEEDED_IDS)
  if (files.length === 0) return undefined
  const options = files.map(({ text, option }) => `${option} ${freeRange(text)}`)
  const small = files.filter(({ text }) => firstRange(text, facts) > 0)
  return new BuildError(
    'E_PERMISSION',
    `${files.map(({ file }) => file).join(' and ')}: user ${facts.username} has no range of ${String(NEEDED_IDS)} ids`,
    {
      because: [
        'a rootfs has files of several owners; without root they come from this range',
        // The first range of a user is the one that is taken, whatever follows.
        ...small.map(
          ({ file }) =>
            `the range that ${file} has for ${facts.username} is too small: remove its line first`,
        ),
      ],
      hint: `sudo usermod ${options.join(' ')} ${facts.username}`,
    },
  )
}

/** Size of the user's first range: the one that unshare --map-auto takes. 0 when there is none. */
function firstRange(text: string, { username, uid }: NamespaceFacts): number {
  const row = rangesOf(text).find(({ owner }) => owner === username || owner === String(uid))
  return row?.count ?? 0
}

/** A range that no user has yet. */
function freeRange(text: string): string {
  const start = Math.max(NEW_RANGE.least, ...rangesOf(text).map((row) => row.start + row.count))
  return `${String(start)}-${String(start + NEW_RANGE.count - 1)}`
}

function rangesOf(text: string): { owner: string; start: number; count: number }[] {
  return text
    .split('\n')
    .map((line) => line.split(':'))
    .filter((fields) => fields.length === 3)
    .map(([owner = '', start, count]) => ({ owner, start: Number(start), count: Number(count) }))
}

/**
 * The error for a user whom this host gives no user namespace: the exact missing thing, and the command
 * that grants it.
 *
 * @param detail what unshare said
 */
export function namespaceError(facts: NamespaceFacts, detail: string): BuildError {
  const ids = missingIds(facts)
  if (ids !== undefined) return ids
  const refusal = refusalOf(facts, detail)
  if (refusal === undefined) {
    return new BuildError('E_PERMISSION', 'no user namespace could be made', {
      because: [detail],
      hint: 'sudo -E make …    builds as root instead',
    })
  }
  return new BuildError('E_PERMISSION', refusal.message, {
    because: [detail].filter((line) => line !== ''),
    hint: `${refusal.command}    or build with sudo -E make`,
  })
}

function refusalOf(facts: NamespaceFacts, detail: string): { message: string; command: string } | undefined {
  const { newuidmap } = facts
  if (!facts.kernelHasThem) {
    return {
      message: 'the kernel of this host has no user namespaces (CONFIG_USER_NS)',
      command: 'boot a kernel that has them',
    }
  }
  if (facts.maxUserNamespaces === 0) {
    return {
      message: 'this host allows no user namespaces: user.max_user_namespaces is 0',
      command: 'sudo sysctl user.max_user_namespaces=15000',
    }
  }
  if (facts.unprivilegedClone === 0) {
    return {
      message: 'this host forbids user namespaces to normal users: kernel.unprivileged_userns_clone is 0',
      command: 'sudo sysctl kernel.unprivileged_userns_clone=1',
    }
  }
  if (/new[ug]idmap:/.test(detail) && !newuidmap.isSetuid) {
    return {
      message: `${newuidmap.path}: has no right to map the ids of /etc/subuid`,
      command: `sudo chmod u+s ${newuidmap.path} ${newuidmap.path.replace(/newuidmap$/, 'newgidmap')}`,
    }
  }
  if (facts.apparmorRestricts === 1) {
    return {
      message:
        'AppArmor on this host forbids user namespaces to normal users: kernel.apparmor_restrict_unprivileged_userns is 1',
      command: 'sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0',
    }
  }
  return undefined
}

function readWhole(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

function readNumber(file: string): number | undefined {
  const text = readWhole(file)
  // The file exists only on kernels that have the switch.
  return text === undefined ? undefined : Number(text)
}
