// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'

import { commonAdditions } from '../scripts/additions.ts'
import { TREE_TAR, findEntry } from '../scripts/cache.ts'
import { fingerprint } from '../scripts/digest.ts'
import type { Json } from '../scripts/digest.ts'
import { BuildError } from '../scripts/errors.ts'
import { listingPath, readState } from '../scripts/manifest.ts'
import { run } from '../scripts/run.ts'
import type { Settings } from '../scripts/settings.ts'
import { openRootfs } from '../scripts/source-rootfs.ts'
import type { SourceRootfs } from '../scripts/source-rootfs.ts'
import { discard, temporaryFor } from '../scripts/temporary.ts'
import { changedPaths, listEntries, readListing } from '../scripts/tree-stamp.ts'
import { readTree, withEntries } from '../scripts/tree.ts'
import type { TreeEntry } from '../scripts/tree.ts'
import type { Workspace } from '../scripts/workspace.ts'
import { withXattrs } from '../scripts/xattrs.ts'
import { DATABASES, component, takeInventory } from './inventory.ts'
import type { Component } from './inventory.ts'
import { listContent, listingDigest } from './listing.ts'
import { rootfsInputs, tableOf, textOf } from './outputs.ts'
import type { Output, Table } from './outputs.ts'
import type { Description } from './sbom-subject.ts'
import { viewTree } from './tree-view.ts'

/**
 * Describe a rootfs, or what was packed from one.
 *
 * @throws BuildError E_INPUT when the rootfs is no longer the one that was packed
 */
export async function describeTree(
  output: Output,
  settings: Settings,
  workspace: Workspace,
): Promise<Description> {
  const { path, manifest } = output
  const isRootfs = manifest.kind === 'rootfs'
  const rootfs = await openRootfs(settings, workspace, isRootfs ? path : undefined)
  if (!isRootfs && manifest.inputs['rootfs'] !== rootfs.stamp) {
    throw new BuildError('E_INPUT', `${path}: ${rootfs.folder} was changed since it was packed from it`, {
      because: ['an SBOM of the one would not be that of the other'],
      hint: `make ${manifest.kind}    packs it again`,
    })
  }
  const clock = Number(manifest.inputs['epochSeconds'] ?? rootfs.epochSeconds)
  const additions = isRootfs ? [] : commonAdditions(rootfs.entries, clock)
  const entries = withEntries(await withXattrs(rootfs.folder, rootfs.entries), additions)
  const listing = listContent(entries)
  const inputs = rootfsInputs(rootfs.manifest ?? manifest)
  const written = Object.entries(tableOf(rootfs.manifest?.result['written']))
  const inventory = await withDatabase(entries, inputs, workspace, (all) =>
    takeInventory(listing, viewTree(all), {
      edited: editsOf(rootfs),
      added: new Set(additions.map((entry) => entry.path)),
      written: Object.fromEntries(written.map(([step, paths]) => [step, wordsOf(paths)])),
      componentOfStep: (step) => componentOfStep(step, inputs),
      packageDigests: digestsOf(rootfs.manifest?.result['packages']),
      takenFrom: inputs['distro'] === 'dracut' ? FROM_HOST : undefined,
      workDir: workspace.workDir,
    }),
  )
  return {
    inventory,
    indexes: rootfs.manifest?.result['suites'] ?? [],
    subject: {
      kind: manifest.kind,
      name: manifest.name,
      sha256: textOf(manifest.result['sha256']) || listingDigest(listing),
      osbuilder: textOf(inputs['version']) || 'unknown',
      epochSeconds: clock,
      properties: {
        distro: [textOf(inputs['distro']), textOf(inputs['release'])].join(' ').trim(),
        arch: textOf(inputs['arch']),
      },
    },
  }
}

/** True when an image or initrd was packed from a rootfs that is no longer as it was. */
export async function isOutdated(output: Output, settings: Settings, workspace: Workspace): Promise<boolean> {
  const { kind, inputs } = output.manifest
  if (kind === 'rootfs' || kind === 'kernel') return false
  return inputs['rootfs'] !== (await openRootfs(settings, workspace, undefined)).stamp
}

function wordsOf(value: Json): string[] {
  return Array.isArray(value) ? value.map((item: Json) => textOf(item)) : []
}

/** Digests of package files, of those rows of a manifest that have one. */
function digestsOf(packages: Json): ReadonlyMap<string, string> {
  const rows = (Array.isArray(packages) ? packages : []).map((item: Json) => tableOf(item))
  return new Map(
    rows
      .filter((row) => textOf(row['sha256']) !== '')
      .map((row) => [
        ['name', 'version', 'arch'].map((key) => textOf(row[key])).join(' '),
        textOf(row['sha256']),
      ]),
  )
}

/** What the user changed in a rootfs of ours: the entries that are not as they were when it was built. */
function editsOf(rootfs: SourceRootfs): ReadonlySet<string> {
  const kept = listingPath(rootfs.folder)
  if (!rootfs.isEdited || readState(rootfs.folder) === undefined || !existsSync(kept)) return new Set()
  const now = listEntries(rootfs.entries).lines
  return new Set(changedPaths(readListing(kept), now, Infinity))
}

/**
 * Look at a tree together with its package database. A guest that was built without one (KEEP_PACKAGE_DB=no)
 * has it in the base tree in the cache.
 *
 * @throws BuildError E_INPUT when it is not there either
 */
async function withDatabase<Result>(
  entries: readonly TreeEntry[],
  inputs: Table,
  workspace: Workspace,
  work: (entries: readonly TreeEntry[]) => Promise<Result>,
): Promise<Result> {
  const isDropped = tableOf(inputs['settings'])['KEEP_PACKAGE_DB'] === false && inputs['distro'] !== 'dracut'
  if (!isDropped) return await work(entries)
  const base = findEntry(workspace.cacheDir, 'base', fingerprint(inputs['base']))
  if (base === undefined) {
    throw new BuildError(
      'E_INPUT',
      'the guest has no package database, and the cache has its base tree no more',
      {
        because: ['KEEP_PACKAGE_DB=no leaves the database out of the guest; it is read from the base tree'],
        hint: 'make clean image sbom    builds it again, and describes it while its base tree is there',
      },
    )
  }
  const folder = temporaryFor(join(workspace.workDir, 'package-database'))
  try {
    mkdirSync(folder)
    const patterns = DATABASES.flatMap((database) => database.folders).map((name) => `./${name}`)
    const tar = ['tar', '--extract', '--file', join(base, TREE_TAR), '--directory', folder, '--no-same-owner']
    // Most trees have one of these folders; tar fails for the others, and the database is looked for after.
    await run(['bash', '-c', '"$@" 2>/dev/null || true', 'bash', ...tar, ...patterns])
    const found = readTree(folder).filter(({ path, type }) => path !== '' && type !== 'directory')
    return await work(withEntries(entries, found))
  } finally {
    discard(folder)
  }
}

const FROM_HOST = component({
  id: 'files-host',
  kind: 'files',
  name: 'taken from the build host by dracut',
  description: 'Programs and libraries of the machine that built it',
})

/** The component that a step of provisioning writes; a named list where it is nobody else's. */
function componentOfStep(step: string, inputs: Table): Component {
  const files = tableOf(inputs['files'])
  if (step === 'agent') return agentOf(inputs)
  if (step === 'kernel modules') {
    return component({
      id: 'kernel-modules',
      kind: 'program',
      name: 'modules of the guest kernel',
      properties: { 'modules:sha256': textOf(inputs['modules']) },
    })
  }
  const given = Object.entries(files).filter(([name]) => /_TARBALL$/.test(name) && name !== 'AGENT_TARBALL')
  return component({
    id: `files-step-${step.replace(/[^a-z0-9]+/gi, '-')}`,
    kind: 'files',
    name: `osbuilder provisioning: ${step}`,
    version: textOf(inputs['version']),
    properties:
      step === 'archives'
        ? Object.fromEntries(given.map(([name, digest]) => [`${name}:sha256`, textOf(digest)]))
        : {},
  })
}

/** The agent: the bundled one by version and sources, a given one by digest, a built one by its commit. */
function agentOf(inputs: Table): Component {
  const agent = tableOf(inputs['agent'])
  const field = (name: string): string => textOf(agent[name])
  const kind = field('kind')
  const [url, commit] = [field('url'), field('commit')]
  return component({
    id: 'agent',
    kind: 'program',
    name: kind === 'bundled' ? 'osbuilder bundled agent' : 'guest agent',
    version: kind === 'bundled' ? textOf(inputs['version']) : commit || field('sha256').slice(0, 12),
    sha256: field('sha256'),
    licence:
      kind === 'bundled'
        ? { expression: 'Apache-2.0', references: [] }
        : { expression: undefined, references: [] },
    purl:
      url === '' ? '' : `pkg:generic/agent@${commit}?vcs_url=${encodeURIComponent(`git+${url}@${commit}`)}`,
    properties: {
      'agent:kind': kind,
      'agent:compiler': field('compiler'),
      'agent:source-sha256': field('source'),
      'agent:note': field('note'),
    },
  })
}
