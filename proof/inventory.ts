// SPDX-License-Identifier: Apache-2.0
import { compareBytes } from '../scripts/tree.ts'
import { apk } from './databases/apk.ts'
import type { DescribedPackage, DistroName, PackageDatabase } from './databases/database.ts'
import { dpkg } from './databases/dpkg.ts'
import { rpm } from './databases/rpm.ts'
import { bootstrapOf, makerOf } from './generated.ts'
import { NO_LICENCE } from './licence.ts'
import type { Licence } from './licence.ts'
import type { ListedEntry } from './listing.ts'
import type { TreeView } from './tree-view.ts'

/** The databases a guest may have; the first that is there is read. */
export const DATABASES: readonly PackageDatabase[] = [dpkg, apk, rpm]

/** A part of an output, with the files that belong to it. */
export interface Component {
  /** Unique in its inventory, and the same in every build. */
  readonly id: string
  readonly kind: 'package' | 'program' | 'files' | 'distro' | 'configuration'
  readonly name: string
  readonly version: string
  readonly description: string
  readonly licence: Licence
  readonly supplier: string
  readonly homepage: string
  readonly purl: string
  readonly sha256: string
  /** Facts without a field of their own: source package, compiler, digest of sources. */
  readonly properties: Readonly<Record<string, string>>
  readonly files: readonly ListedEntry[]
}

/** Everything an output is made of. */
export interface Inventory {
  readonly components: readonly Component[]
  /** Files that belong to nothing. */
  readonly unaccounted: readonly ListedEntry[]
}

/** A component with nothing but a name. */
export function component(of: Pick<Component, 'id' | 'kind' | 'name'> & Partial<Component>): Component {
  const empty = { version: '', description: '', supplier: '', homepage: '', purl: '', sha256: '' }
  return { ...empty, licence: NO_LICENCE, properties: {}, files: [], ...of }
}

/** What is known of a tree beside its package database. */
export interface TreeFacts {
  /** What the user added or changed after it was built. */
  readonly edited: ReadonlySet<string>
  /** What the packer added on the way out. */
  readonly added: ReadonlySet<string>
  /** What provisioning wrote, by the name of its step. */
  readonly written: Readonly<Record<string, readonly string[]>>
  /** The component that a step of provisioning wrote: agent, kernel modules; others are named lists. */
  readonly componentOfStep: (step: string) => Component
  /** Digests of package files, by `name version arch`, where the index or a lock told them. */
  readonly packageDigests: ReadonlyMap<string, string>
  /** What has made the tree in place of a package manager. */
  readonly takenFrom: Component | undefined
  /** Folder for files of the moment. */
  readonly workDir: string
}

/**
 * Tell of every regular file to what it belongs.
 *
 * Whoever wrote a file last has it: the user, the packer, provisioning, then the package that brought
 * it, and of the rest the package manager and the scripts it ran.
 *
 * @param view the tree, with its package database even when the guest has none
 */
export async function takeInventory(
  listing: readonly ListedEntry[],
  view: TreeView,
  facts: TreeFacts,
): Promise<Inventory> {
  const distro = distroOf(view)
  const { database, packages: found } = await readPackages(view, distro, facts.workDir)
  const packages = found.map((item) => {
    const sha256 = facts.packageDigests.get([item.name, item.version, item.arch].join(' '))
    return sha256 === undefined ? item : { ...item, sha256 }
  })
  const owners = ownersOf(view, packages)
  const stepOf = new Map(
    Object.entries(facts.written).flatMap(([step, paths]) => paths.map((path) => [path, step])),
  )
  const scripts = packages.map(({ name, scripts: texts }) => ({ name, text: texts.join('\n') }))
  const parts = new Map<string, { readonly of: Component; readonly files: ListedEntry[] }>()
  const give = (of: Component, file: ListedEntry): void => {
    const known = parts.get(of.id)
    if (known === undefined) parts.set(of.id, { of, files: [file] })
    else known.files.push(file)
  }
  for (const item of packages) {
    const of = packageComponent(item, database)
    parts.set(of.id, { of, files: [] })
  }
  const unaccounted: ListedEntry[] = []
  for (const file of listing.filter(({ type }) => type === 'file')) {
    const step = stepOf.get(file.path)
    const owner = owners.get(file.path)
    const maker = makerOf(file.path, scripts)
    const tool = bootstrapOf(file.path, database?.name ?? '')
    if (facts.edited.has(file.path)) give(USER, file)
    else if (facts.added.has(file.path)) give(PACKER, file)
    else if (step !== undefined) give(facts.componentOfStep(step), file)
    else if (owner !== undefined) give(packageComponent(owner, database), file)
    else if (database?.folders.some((folder) => file.path.startsWith(`${folder}/`)))
      give(ofDatabase(database), file)
    else if (tool !== undefined) give(ofBootstrap(tool), file)
    else if (maker !== undefined) give(ofScripts(maker.by), file)
    else if (facts.takenFrom !== undefined) give(facts.takenFrom, file)
    else unaccounted.push(file)
  }
  const components = [...parts.values()].map(({ of, files }) => ({ ...of, files }))
  return {
    components: [distroComponent(distro, view), ...components.sort((a, b) => compareBytes(a.id, b.id))],
    unaccounted,
  }
}

async function readPackages(
  view: TreeView,
  distro: DistroName,
  workDir: string,
): Promise<{
  readonly database: PackageDatabase | undefined
  readonly packages: readonly DescribedPackage[]
}> {
  for (const database of DATABASES) {
    const packages = await database.read(view, distro, workDir)
    if (packages !== undefined) return { database, packages }
  }
  return { database: undefined, packages: [] }
}

/** Packages by the place their files really have: `/lib/x` is `usr/lib/x` where lib is a link. */
function ownersOf(view: TreeView, packages: readonly DescribedPackage[]): Map<string, DescribedPackage> {
  const owners = new Map<string, DescribedPackage>()
  for (const item of packages) {
    for (const path of item.files) owners.set(view.place(path), item)
  }
  return owners
}

function packageComponent(item: DescribedPackage, database: PackageDatabase | undefined): Component {
  const manager = database?.name ?? ''
  return component({
    id: `${manager}-${item.name}-${item.version}-${item.arch}`,
    kind: 'package',
    name: item.name,
    version: item.version,
    description: item.description,
    licence: item.licence,
    supplier: item.supplier,
    homepage: item.homepage,
    purl: item.purl,
    sha256: item.sha256 ?? '',
    properties: { 'package:manager': manager, 'package:source': item.source, 'package:arch': item.arch },
  })
}

const USER = component({
  id: 'files-user',
  kind: 'files',
  name: 'added by the user',
  description: 'Files that were added to the rootfs, or changed in it, after it was built',
})

const PACKER = component({
  id: 'files-packer',
  kind: 'files',
  name: 'osbuilder packing',
  description: 'Files that every image and initrd has and its rootfs need not have',
})

function ofDatabase({ name }: PackageDatabase): Component {
  return component({
    id: `files-database-${name}`,
    kind: 'files',
    name: `database of ${name}`,
    description: `What ${name} keeps of the packages it installed`,
  })
}

function ofBootstrap(tool: string): Component {
  return component({
    id: `files-bootstrap-${tool}`,
    kind: 'files',
    name: `written by ${tool}`,
    description: `Files that ${tool} writes into every tree, and no package`,
  })
}

function ofScripts(name: string): Component {
  return component({
    id: `files-scripts-${name}`,
    kind: 'files',
    name: `made by package scripts of ${name}`,
    description: `Files that no package lists, and that scripts or programs of ${name} write when packages are installed`,
  })
}

/** Name and version of a guest's distro. Source: os-release(5) */
export function distroOf(view: TreeView): DistroName {
  const text = view.text('etc/os-release') ?? view.text('usr/lib/os-release') ?? ''
  const field = (name: string): string =>
    (new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1] ?? '').replace(/^(['"])(.*)\1$/, '$2')
  return { id: field('ID'), version: field('VERSION_ID') }
}

function distroComponent(distro: DistroName, view: TreeView): Component {
  const text = view.text('etc/os-release') ?? view.text('usr/lib/os-release') ?? ''
  const title = /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(text)?.[1] ?? ''
  return component({
    id: 'distro',
    kind: 'distro',
    name: distro.id || 'unknown',
    version: distro.version,
    description: title,
  })
}
