// SPDX-License-Identifier: Apache-2.0
import { posix } from 'node:path'

import { compareBytes } from '../../scripts/tree.ts'
import { licenceOfCopyright } from '../debian-copyright.ts'
import { NO_LICENCE } from '../licence.ts'
import type { TreeView } from '../tree-view.ts'
import { purlOf } from './database.ts'
import type { DescribedPackage, DistroName, PackageDatabase } from './database.ts'

const DATABASE = 'var/lib/dpkg'

/** Scripts that may write files. Source: deb-postinst(5) and its like. */
const SCRIPTS = ['preinst', 'postinst', 'config', 'triggers']

/** dpkg's database, with the licences of the copyright files beside it. Source: deb822(5), dpkg(1) */
export const dpkg: PackageDatabase = {
  name: 'dpkg',
  folders: ['var/lib/dpkg', 'var/lib/apt', 'var/cache/apt'],
  read: (view, distro) => {
    const status = view.text(`${DATABASE}/status`)
    if (status === undefined) return Promise.resolve(undefined)
    const away = diversions(view.text(`${DATABASE}/diversions`) ?? '')
    const packages = status
      .split(/\n\n+/)
      .map(fieldsOf)
      .filter((fields) => /^\S+ ok (installed|triggers-\w+)$/.test(fields.get('status') ?? ''))
      .map((fields) => describe(view, fields, distro, away))
    return Promise.resolve(
      packages.sort((a, b) => compareBytes(a.name, b.name) || compareBytes(a.arch, b.arch)),
    )
  },
}

function fieldsOf(paragraph: string): Map<string, string> {
  const rows = [...paragraph.matchAll(/^([A-Za-z-]+): *(.*)$/gm)]
  return new Map(rows.map((match) => [String(match[1]).toLowerCase(), String(match[2])]))
}

function describe(
  view: TreeView,
  fields: ReadonlyMap<string, string>,
  distro: DistroName,
  away: readonly Diversion[],
): DescribedPackage {
  const field = (name: string): string => fields.get(name) ?? ''
  const [name, version, arch] = [field('package'), field('version'), field('architecture')]
  // A package that may be installed for several architectures has its own in the name of its files.
  const info = (kind: string): string | undefined =>
    view.text(`${DATABASE}/info/${name}.${kind}`) ?? view.text(`${DATABASE}/info/${name}:${arch}.${kind}`)
  const where = `usr/share/doc/${name}/copyright`
  const copyright = view.text(where)
  const files = (info('list') ?? '').split('\n').filter((path) => path !== '' && path !== '/.')
  return {
    name,
    version,
    arch,
    source: field('source').split(' ')[0] || name,
    licence: copyright === undefined ? NO_LICENCE : licenceOfCopyright(copyright, name, `/${where}`),
    purl: purlOf('deb', distro, { name, version }, { arch }),
    supplier: field('maintainer'),
    homepage: field('homepage'),
    description: field('description'),
    files: files.map((path) => away.find((one) => one.from === path && one.by !== name)?.to ?? path),
    scripts: SCRIPTS.map(info).filter((text) => text !== undefined),
  }
}

interface Diversion {
  readonly from: string
  readonly to: string
  /** Package that has the file under its own name, or `:` for the administrator. */
  readonly by: string
}

/** Triples of lines: name, name of all others' file, package. Source: dpkg-divert(1) */
function diversions(text: string): Diversion[] {
  const lines = text.split('\n').filter((line) => line !== '')
  const rows: Diversion[] = []
  for (let at = 0; at + 2 < lines.length; at += 3) {
    rows.push({ from: lines[at] ?? '', to: lines[at + 1] ?? '', by: lines[at + 2] ?? '' })
  }
  return rows
}

/** The package whose own file in the database it is, such as `var/lib/dpkg/info/bash.list`. */
export function packageOfInfoFile(path: string): string | undefined {
  if (posix.dirname(path) !== `${DATABASE}/info`) return undefined
  return /^(.+?)(?::[a-z0-9-]+)?\.\w+$/.exec(posix.basename(path))?.[1]
}
