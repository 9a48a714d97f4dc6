// SPDX-License-Identifier: Apache-2.0
import { packageOfInfoFile } from './databases/dpkg.ts'

/**
 * Files that no package lists, because the programs of one write them when packages are installed.
 * The first that fits is taken.
 */
const GENERATED: readonly { readonly path: RegExp; readonly by: string; readonly why: string }[] = [
  { path: /^etc\/ld\.so\.cache$/, by: 'libc-bin', why: 'ldconfig writes it' },
  { path: /^var\/lib\/dpkg\/alternatives\//, by: 'dpkg', why: 'update-alternatives writes it' },
  { path: /^etc\/(passwd|group|shadow|gshadow|subuid|subgid)$/, by: 'passwd', why: 'accounts of packages' },
  { path: /^etc\/pam\.d\/common-/, by: 'libpam-runtime', why: 'pam-auth-update writes it' },
  { path: /^var\/lib\/pam\//, by: 'libpam-runtime', why: 'pam-auth-update writes it' },
  { path: /^etc\/(shells)$|^var\/lib\/shells\.state$/, by: 'debianutils', why: 'update-shells writes it' },
  {
    path: /^var\/lib\/systemd\/deb-systemd-/,
    by: 'init-system-helpers',
    why: 'deb-systemd-helper writes it',
  },
  { path: /^var\/lib\/ucf\//, by: 'ucf', why: 'ucf remembers configurations there' },
  { path: /^etc\/ssl\/certs\/|^etc\/ca-certificates/, by: 'ca-certificates', why: 'update-ca-certificates' },
  { path: /^(usr\/lib|lib|etc)\/udev\/hwdb\.bin$/, by: 'udev', why: 'systemd-hwdb compiles it' },
  { path: /^usr\/lib\/locale\/locale-archive$/, by: 'locales', why: 'locale-gen writes it' },
  { path: /^usr\/share\/info\/dir$/, by: 'install-info', why: 'update-info-dir writes it' },
  { path: /\/__pycache__\/[^/]+\.pyc$/, by: 'python3-minimal', why: 'py3compile writes it' },
  { path: /^usr\/share\/mime\//, by: 'shared-mime-info', why: 'update-mime-database writes it' },
]

/** What a bootstrap tool itself writes, and no package. Source: mmdebstrap(1), "OPERATION" */
const BY_BOOTSTRAP: ReadonlyMap<string, string> = new Map([
  ['etc/fstab', 'mmdebstrap'],
  ['etc/hostname', 'mmdebstrap'],
  ['etc/resolv.conf', 'mmdebstrap'],
  ['etc/apt/sources.list', 'mmdebstrap'],
])

/** The bootstrap tool that wrote a file of a tree with this database, or undefined. */
export function bootstrapOf(path: string, database: string): string | undefined {
  return database === 'dpkg' ? BY_BOOTSTRAP.get(path) : undefined
}

export interface Maker {
  /** Name of a package. */
  readonly by: string
  readonly why: string
}

/**
 * The package whose scripts made a file that none lists, as far as it can be told: a program that is
 * known to write it, else a script that names the path.
 *
 * @param scripts of the packages, in byte order of their names
 */
export function makerOf(
  path: string,
  scripts: readonly { readonly name: string; readonly text: string }[],
): Maker | undefined {
  const owner = packageOfInfoFile(path)
  if (owner !== undefined) return undefined
  const names = new Set(scripts.map(({ name }) => name))
  const known = GENERATED.find((row) => row.path.test(path) && names.has(row.by))
  if (known !== undefined) return { by: known.by, why: known.why }
  const word = new RegExp(`${escape(`/${path}`)}(?![\\w/.-]*[\\w/])`)
  const script = scripts.find(({ text }) => word.test(text))
  return script === undefined ? undefined : { by: script.name, why: `a script of it names /${path}` }
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}
