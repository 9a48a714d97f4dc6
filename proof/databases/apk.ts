// SPDX-License-Identifier: Apache-2.0
import { Readable } from 'node:stream'

import { extract } from 'tar-stream'

import { compareBytes } from '../../scripts/tree.ts'
import { licenceOfField } from '../licence.ts'
import type { TreeView } from '../tree-view.ts'
import { purlOf } from './database.ts'
import type { DescribedPackage, DistroName, PackageDatabase } from './database.ts'

/** Where the database is; Alpine moves it below /usr. */
const DATABASES = ['lib/apk/db', 'usr/lib/apk/db']

/** apk's database. Source: apk-v2(5) */
export const apk: PackageDatabase = {
  name: 'apk',
  folders: ['lib/apk', 'usr/lib/apk', 'var/lib/apk', 'var/cache/apk', 'etc/apk'],
  read: async (view, distro) => {
    const folder = DATABASES.find((path) => view.text(`${path}/installed`) !== undefined)
    if (folder === undefined) return undefined
    const scripts = await scriptsOf(view, `${folder}/scripts.tar`)
    const paragraphs = (view.text(`${folder}/installed`) ?? '').split(/\n\n+/)
    return paragraphs
      .filter((paragraph) => paragraph.startsWith('C:'))
      .map((paragraph) => describe(paragraph, distro, scripts))
      .sort((a, b) => compareBytes(a.name, b.name))
  },
}

function describe(
  paragraph: string,
  distro: DistroName,
  scripts: ReadonlyMap<string, readonly string[]>,
): DescribedPackage {
  const rows = paragraph.split('\n')
  const field = (letter: string): string => rows.find((row) => row.startsWith(`${letter}:`))?.slice(2) ?? ''
  const [name, version, arch] = [field('P'), field('V'), field('A')]
  return {
    name,
    version,
    arch,
    source: field('o') || name,
    licence: licenceOfField(field('L'), `licence field of package ${name}`),
    purl: purlOf('apk', distro, { name, version }, { arch }),
    supplier: field('m'),
    homepage: field('U'),
    description: field('T'),
    files: filesOf(rows),
    scripts: scripts.get(`${name}-${version}.${field('C')}`) ?? [],
  }
}

/** Folders `F:`, each followed by its files `R:`. */
function filesOf(rows: readonly string[]): string[] {
  const files: string[] = []
  let folder = ''
  for (const row of rows) {
    if (row.startsWith('F:')) {
      folder = row.slice(2)
      if (folder !== '') files.push(`/${folder}`)
    } else if (row.startsWith('R:')) {
      files.push(folder === '' ? `/${row.slice(2)}` : `/${folder}/${row.slice(2)}`)
    }
  }
  return files
}

/** Scripts by `<name>-<version>.<checksum>`, each member's name without its last word. */
async function scriptsOf(view: TreeView, path: string): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>()
  const bytes = view.bytes(path)
  if (bytes === undefined) return found
  const archive = extract()
  Readable.from([bytes]).pipe(archive)
  for await (const entry of archive) {
    const chunks: Buffer[] = []
    for await (const chunk of entry) chunks.push(chunk as Buffer)
    const key = entry.header.name.replace(/\.[a-z-]+$/, '')
    found.set(key, [...(found.get(key) ?? []), Buffer.concat(chunks).toString('utf8')])
  }
  return found
}
