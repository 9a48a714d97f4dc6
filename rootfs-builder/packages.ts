// SPDX-License-Identifier: Apache-2.0
import { RPM_DATABASES, hasRpmDatabase, queryRpm } from '../scripts/rpm-database.ts'
import { exists, hostPath, readText } from './guest.ts'
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

/** Tab-separated, a package a line; no field of these can have either. */
const RPM_FORMAT = '%{NAME}\\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\\t%{ARCH}\\t%{SOURCERPM}\\t%{SIZE}\\n'

/** The installed packages of a tree with rpm's database, in byte order of the names. */
export async function rpmPackages(guest: Guest): Promise<InstalledPackage[]> {
  const folder = RPM_DATABASES.map((path) => hostPath(guest, path)).find(hasRpmDatabase)
  if (folder === undefined) return []
  return parseRpmList(await queryRpm(folder, `${guest.root}.rpm`, RPM_FORMAT))
}

/** Lines of RPM_FORMAT. Keys that rpm imported are listed too and are no packages. */
export function parseRpmList(text: string): InstalledPackage[] {
  return text
    .split('\n')
    .map((line) => line.split('\t'))
    .filter(([name = '', ...rest]) => rest.length === 4 && name !== 'gpg-pubkey')
    .map(([name = '', version = '', arch = '', source = '', size = '']) => ({
      ...{ name, version, arch },
      source: source.replace(/-[^-]+-[^-]+\.src\.rpm$/, ''),
      installedKiB: Math.ceil(Number(size) / 1024),
    }))
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
