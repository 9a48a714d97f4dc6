// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { RPM_DATABASES, RPM_DATABASE_FILES, queryRpm } from '../../scripts/rpm-database.ts'
import { compareBytes } from '../../scripts/tree.ts'
import { licenceOfField } from '../licence.ts'
import type { TreeView } from '../tree-view.ts'
import { purlOf } from './database.ts'
import type { DescribedPackage, DistroName, PackageDatabase } from './database.ts'

/** Marks in what rpm is asked to print, which no field has: record and field. */
const RECORD = '\u001e'
const FIELD = '\u001f'

const FIELDS = ['NAME', 'EPOCH', 'VERSION', 'RELEASE', 'ARCH', 'SOURCERPM', 'LICENSE', 'VENDOR', 'PACKAGER']
const MORE = ['URL', 'SUMMARY', 'POSTIN', 'PREIN', 'POSTTRANS']

/** What `rpm --query --queryformat` is given; a name that is missing prints `(none)`. */
export const QUERY_FORMAT = [
  ...[...FIELDS, ...MORE].map((name) => `%{${name}}${FIELD}`),
  `[%{FILENAMES}\n]${RECORD}`,
].join('')

/** rpm's database, read by the host's rpm, which knows its formats. Source: rpm(8), --queryformat */
export const rpm: PackageDatabase = {
  name: 'rpm',
  folders: ['usr/lib/sysimage', 'var/lib/rpm', 'var/lib/dnf', 'var/cache/dnf', 'var/lib/yum'],
  read: async (view, distro, workDir) => {
    const found = hostFolder(view)
    if (found === undefined) return undefined
    const said = await queryRpm(found, join(workDir, 'rpm'), QUERY_FORMAT)
    return parseRpmQuery(said, distro)
  },
}

/** Host path of the database's folder, when the view is of host files. */
function hostFolder(view: TreeView): string | undefined {
  for (const folder of RPM_DATABASES) {
    for (const name of RPM_DATABASE_FILES) {
      const path = view.resolve(`${folder}/${name}`)
      const entry = view.entries.find((candidate) => candidate.path === path)
      if (typeof entry?.source === 'string' && existsSync(entry.source)) return dirname(entry.source)
    }
  }
  return undefined
}

/** The packages of what rpm printed. Keys that it imported are listed too and are no packages. */
export function parseRpmQuery(said: string, distro: DistroName): DescribedPackage[] {
  return said
    .split(RECORD)
    .map((record) => record.split(FIELD).map((text) => (text.trim() === '(none)' ? '' : text)))
    .filter((fields) => fields.length === FIELDS.length + MORE.length + 1 && fields[0] !== 'gpg-pubkey')
    .map((fields) => {
      const [name = '', epoch = '', version = '', release = '', arch = '', source = '', licence = ''] = fields
      const [vendor = '', packager = '', homepage = '', summary = '', ...rest] = fields.slice(7)
      const full = `${version}-${release}`
      return {
        name,
        version: epoch === '' || epoch === '0' ? full : `${epoch}:${full}`,
        arch,
        source: source.replace(/-[^-]+-[^-]+\.src\.rpm$/, '') || name,
        licence: licenceOfField(licence, `licence field of package ${name}`),
        purl: purlOf('rpm', distro, { name, version: full }, { arch, epoch }),
        supplier: vendor || packager,
        homepage,
        description: summary,
        files: (rest.at(-1) ?? '').split('\n').filter((path) => path !== ''),
        scripts: rest.slice(0, -1).filter((text) => text !== ''),
      }
    })
    .sort((a, b) => compareBytes(a.name, b.name) || compareBytes(a.version, b.version))
}
