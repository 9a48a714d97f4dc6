// SPDX-License-Identifier: Apache-2.0
import { exists, readText } from './guest.ts'
import type { Guest } from './guest.ts'

/** One installed package, as its database tells. */
export interface InstalledPackage {
  readonly name: string
  readonly version: string
  readonly arch: string
  /** Source package, with its version where that differs. */
  readonly source: string
  /** Space its files take. Unit: KiB. */
  readonly installedKiB: number
}

/** The installed packages of a tree with dpkg's database, in byte order of the names. */
export function dpkgPackages(guest: Guest): InstalledPackage[] {
  if (!exists(guest, 'var/lib/dpkg/status')) return []
  return parseDpkgStatus(readText(guest, 'var/lib/dpkg/status'))
}

/** The installed packages of a tree with apk's database, in byte order of the names. Source: apk-v2(5) */
export function apkPackages(guest: Guest): InstalledPackage[] {
  if (!exists(guest, 'lib/apk/db/installed')) return []
  const paragraphs = readText(guest, 'lib/apk/db/installed').split(/\n\n+/)
  return paragraphs
    .filter((paragraph) => paragraph.startsWith('C:'))
    .map((paragraph) => {
      const field = (key: string): string => new RegExp(`^${key}:(.*)$`, 'm').exec(paragraph)?.[1] ?? ''
      return {
        name: field('P'),
        version: field('V'),
        arch: field('A'),
        source: field('o'),
        installedKiB: Math.ceil(Number(field('I')) / 1024),
      }
    })
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
}

/** Source: deb822(5), dpkg-query(1). */
export function parseDpkgStatus(text: string): InstalledPackage[] {
  const packages: InstalledPackage[] = []
  for (const paragraph of text.split(/\n\n+/)) {
    const fields = new Map<string, string>()
    for (const match of paragraph.matchAll(/^([A-Za-z-]+): *(.*)$/gm))
      fields.set(String(match[1]), String(match[2]))
    const name = fields.get('Package')
    if (name === undefined || !/^\S+ ok installed$/.test(fields.get('Status') ?? '')) continue
    packages.push({
      name,
      version: fields.get('Version') ?? '',
      arch: fields.get('Architecture') ?? '',
      source: fields.get('Source') ?? name,
      installedKiB: Number(fields.get('Installed-Size') ?? 0),
    })
  }
  return packages.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
}
