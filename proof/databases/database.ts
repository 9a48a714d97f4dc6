// SPDX-License-Identifier: Apache-2.0
import type { Licence } from '../licence.ts'
import type { TreeView } from '../tree-view.ts'

/** What a package database tells of one package. */
export interface DescribedPackage {
  readonly name: string
  readonly version: string
  /** The distro's name of the architecture. */
  readonly arch: string
  /** Source package. */
  readonly source: string
  readonly licence: Licence
  /** Package URL. Source: https://github.com/package-url/purl-spec */
  readonly purl: string
  /** Who packaged it, as `Name <address>`; `''` when it is not told. */
  readonly supplier: string
  readonly homepage: string
  readonly description: string
  /** Digest of the package file, where the database has it. */
  readonly sha256?: string
  /** Guest paths of what it brought, folders included, as the database has them. */
  readonly files: readonly string[]
  /** Scripts that ran when it was installed. */
  readonly scripts: readonly string[]
}

/** The distro of a guest, for package URLs. */
export interface DistroName {
  /** ID of os-release. */
  readonly id: string
  readonly version: string
}

/** A package manager's database, behind which dpkg, apk and rpm look alike. */
export interface PackageDatabase {
  readonly name: 'dpkg' | 'apk' | 'rpm'
  /** Folders that only the manager itself writes. */
  readonly folders: readonly string[]
  /**
   * The packages, in byte order of their names; undefined when the tree has no such database.
   *
   * @param workDir folder for files of the moment
   */
  readonly read: (
    view: TreeView,
    distro: DistroName,
    workDir: string,
  ) => Promise<readonly DescribedPackage[] | undefined>
}

/** A package URL; `:` stays, as its specification wants it. */
export function purlOf(
  type: 'deb' | 'apk' | 'rpm',
  distro: DistroName,
  item: { readonly name: string; readonly version: string },
  qualifiers: Readonly<Record<string, string>>,
): string {
  const encode = (text: string): string => encodeURIComponent(text).replaceAll('%3A', ':')
  const words = Object.entries({
    ...qualifiers,
    distro: [distro.id, distro.version].filter(Boolean).join('-'),
  })
    .filter(([, value]) => value !== '')
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${encode(value)}`)
  const namespace = encode(distro.id === '' ? type : distro.id.toLowerCase())
  return `pkg:${type}/${namespace}/${encode(item.name)}@${encode(item.version)}${words.length === 0 ? '' : '?'}${words.join('&')}`
}
