// SPDX-License-Identifier: Apache-2.0

/**
 * Debian 12 wants /bin, /sbin and /lib to be links into /usr, by one of two packages: `usrmerge`, which
 * converts a tree and brings a whole perl for that (eight packages, 47 MB), or `usr-is-merged`, which
 * says that it is so. With the links there before anything is unpacked, the second will do.
 */

/** Keeps apt from the package that converts. Source: apt_preferences(5) */
export const NO_USRMERGE = 'Package: usrmerge\nPin: release *\nPin-Priority: -1\n'

/** Name of a file of apt's preferences. */
export const PREFERENCES = '99osbuilder'

/** Folders that are links; architectures whose program loader has a folder of its own have one more. */
function linked(debianArch: string): string[] {
  return ['bin', 'sbin', 'lib', ...(['amd64', 'ppc64el'].includes(debianArch) ? ['lib64'] : [])]
}

/** Hook of mmdebstrap that makes the links. */
export function mergedUsrHook(debianArch: string): string {
  const folders = linked(debianArch)
  const links = folders.map((name) => `ln -s usr/${name} ${name}`)
  const made = `mkdir -p ${folders.map((name) => `usr/${name}`).join(' ')}`
  return `--setup-hook=${['set -eu', 'cd "$1"', made, ...links].join('\n')}`
}
