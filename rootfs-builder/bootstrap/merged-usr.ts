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

/**
 * Hooks of mmdebstrap that make the links.
 *
 * @param isChoosing apt has both packages to choose from: not with a lock, which names one
 */
export function mergedUsrHooks(debianArch: string, isChoosing: boolean): string[] {
  const folders = linked(debianArch)
  const links = folders.map((name) => `ln -s usr/${name} ${name}`)
  const file = `etc/apt/preferences.d/${PREFERENCES}`
  const pin = [`mkdir -p etc/apt/preferences.d`, `printf '%s' '${NO_USRMERGE}' > ${file}`]
  const setup = ['cd "$1"', `mkdir -p ${folders.map((name) => `usr/${name}`).join(' ')}`, ...links]
  return [
    `--setup-hook=${[...setup, ...(isChoosing ? pin : [])].join('\n')}`,
    ...(isChoosing ? [`--customize-hook=rm "$1/${file}"`] : []),
  ]
}
