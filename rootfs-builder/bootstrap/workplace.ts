// SPDX-License-Identifier: Apache-2.0
import { lstatSync, readFileSync } from 'node:fs'

import { ARCHES } from '../../scripts/arch.ts'
import type { ArchName } from '../../scripts/arch.ts'
import { BuildError } from '../../scripts/errors.ts'
import { PROJECT_ROOT } from '../../scripts/paths.ts'
import { hostArch } from '../../scripts/settings.ts'

/** Memory that must be free before a tree is made in it: tree, packages and lists, and as much again. Unit: bytes. */
const MEMORY_NEEDED = 3 * 1024 * 1024 * 1024

/**
 * A folder of the host over which the tree may be mounted, out of sight of everybody else.
 *
 * apt checks signatures as a user of its own, which must reach tree and keyring: it may not enter a
 * WORKDIR or a keyring's folder below somebody's home.
 *
 * @param used paths that must stay visible
 */
export function workplaceOutside(used: readonly string[]): string {
  const isFree = (folder: string): boolean =>
    lstatSync(folder, { throwIfNoEntry: false })?.isDirectory() === true &&
    ![...used, PROJECT_ROOT, process.execPath].some((path) => `${path}/`.startsWith(`${folder}/`))
  const found = ['/mnt', '/media', '/srv', '/opt', '/tmp'].find(isFree)
  if (found !== undefined) return found
  throw new BuildError(
    'E_CONFIG',
    'this host has none of /mnt, /media, /srv, /opt and /tmp free to work in',
    {
      hint: 'mkdir /mnt    or set WORKDIR to a folder outside of them',
    },
  )
}

/**
 * Shell command that mounts an empty folder over a workplace: in memory where there is enough, because
 * package managers sync every file, else a folder on disk. The mount is seen by the family of the command alone.
 *
 * @param workplace and @param scratch shell words
 */
export function mountWorkplace(workplace: string, scratch: string): string {
  return fitsInMemory()
    ? `mount -t tmpfs -o mode=0755 osbuilder ${workplace}`
    : `mount --bind ${scratch} ${workplace}; chmod 0755 ${workplace}`
}

/** What a package's script finds in /dev. It sees no disk of the host. */
const DEVICES = ['full', 'null', 'random', 'tty', 'urandom', 'zero']

/**
 * Shell command that puts devices into an empty folder that stands for /dev.
 *
 * @param folder shell word
 */
export function mountDevices(folder: string): string {
  return `for name in ${DEVICES.join(' ')}; do : > ${folder}/$name; mount --bind /dev/$name ${folder}/$name; done`
}

/** True when the machine has memory to spare for the whole tree; else it is made on disk. */
function fitsInMemory(): boolean {
  const kib = /^MemAvailable:\s+(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0
  return Number(kib) * 1024 > MEMORY_NEEDED
}

/** Tools that run package scripts of another architecture. */
export function foreignTools(arch: ArchName): string[] {
  return arch === hostArch() ? [] : [`qemu-${ARCHES[arch].qemu}-static`, 'arch-test']
}

/** The error for a host that cannot run the programs of the guest. */
export function cannotRun(arch: ArchName, because: readonly string[], cause: unknown): BuildError {
  return new BuildError('E_CONFIG', `this host cannot run programs of ${arch}`, {
    because,
    hint: `sudo make ARCH=${arch} setup`,
    cause,
  })
}
