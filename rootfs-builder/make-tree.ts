// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { findEntry } from '../scripts/cache.ts'
import { listingPath, readState, writeManifest, writeState } from '../scripts/manifest.ts'
import { changeFolder, discard, temporaryFor, withTemporary } from '../scripts/temporary.ts'
import { clampTimes, listEntries, listTree, settleTimes } from '../scripts/tree-stamp.ts'
import type { TreeListing } from '../scripts/tree-stamp.ts'
import { findTree } from '../scripts/tree-find.ts'
import { leaveReading } from '../scripts/tree-reading.ts'
import { compareBytes, entryAt } from '../scripts/tree.ts'
import type { TreeEntry } from '../scripts/tree.ts'
import { spreadFolders } from '../scripts/workspace.ts'
import { TREE_TAR, unpackBase } from './base-tree.ts'
import type { Build, Wanted, Whole } from './build.ts'
import { applyDelta, clampedRows, deltaRows, findDelta, rowsToUndo, saveDelta, undoDelta } from './delta.ts'
import type { Delta, DeltaRow, KeptDelta, Written } from './delta.ts'
import type { Guest } from './guest.ts'
import { bootstrap } from './keep-base.ts'
import type { InstalledPackage } from './packages.ts'
import { PROVISION_STEPS } from './provision/steps.ts'
import type { ProvisionContext } from './provision/context.ts'

/** Part of a tree's entries above which starting from the base tree is as quick as undoing a delta. */
const LARGEST_DELTA = 0.5

/** Make the rootfs the shortest way: from the one that is there, else from the base tree. Returns its number of packages. */
export async function makeTree(build: Build, wanted: Wanted): Promise<number> {
  const { output, workspace } = build
  const { cacheDir } = workspace
  const base = findEntry(cacheDir, 'base', wanted.base)
  const state = readState(output)
  const delta = state === undefined ? undefined : findDelta(cacheDir, state.fingerprint, wanted.base)
  if (wanted.unedited === undefined || state === undefined || delta === undefined || base === undefined) {
    await spreadFolders(dirname(output))
    return await withTemporary(output, async (temporary) => {
      mkdirSync(temporary)
      const keeping = base === undefined ? await bootstrap(build, temporary, wanted) : undefined
      if (base !== undefined) await unpackBase(join(base, TREE_TAR), temporary)
      const clamped = clampBase(temporary, await findTree(temporary), wanted)
      return await fill(build, wanted, temporary, clamped, keeping?.kept)
    })
  }
  const stored = join(base, TREE_TAR)
  const before = wanted.unedited
  let packages = 0
  await changeFolder(
    output,
    async (temporary) => {
      const undone = rowsToUndo(delta, wanted.context.epochSeconds)
      await undoDelta(temporary, undone, stored)
      packages = await fill(build, wanted, temporary, clampAgain(temporary, before, undone, delta, wanted))
    },
    async (temporary) => {
      await undoDelta(temporary, deltaRows(before, await findTree(temporary), delta.rows), stored)
      clampTimes(temporary, await findTree(temporary), delta.epochSeconds)
      await applyDelta(temporary, delta)
      const { lines, stamp } = await listTree(temporary)
      writeFileSync(listingPath(output), lines.join('\n'))
      writeState(output, temporary, { ...state, stamp })
    },
  )
  return packages
}

/** A base tree in which nothing is younger than the clock. */
interface Clamped {
  /** Its entries, but for those of `undone`, which are of the tree before. */
  readonly before: readonly TreeEntry[]
  /** Rows of the delta that was undone to get it. */
  readonly undone: readonly DeltaRow[]
  /** What was younger. */
  readonly clamped: readonly DeltaRow[]
}

function clampBase(tree: string, entries: readonly TreeEntry[], { context }: Wanted): Clamped {
  const clamped = clampedRows(entries, context.epochSeconds)
  return { before: clampTimes(tree, entries, context.epochSeconds), undone: [], clamped }
}

/** As clampBase, for a tree of which only some paths were put back. */
function clampAgain(
  tree: string,
  before: readonly TreeEntry[],
  undone: readonly DeltaRow[],
  delta: KeptDelta,
  { context: { epochSeconds } }: Wanted,
): Clamped {
  const back = undone.filter(({ was }) => was !== 'absent').map(({ path }) => entryAt(path, join(tree, path)))
  const young = clampedRows(back, epochSeconds)
  const now = new Map(clampTimes(tree, back, epochSeconds).map((entry) => [entry.path, entry]))
  const kept = delta.epochSeconds === epochSeconds ? delta.clamped : []
  const clamped = new Map([...kept, ...young].map((row) => [row.path, row]))
  return {
    before: before.map((entry) => now.get(entry.path) ?? entry),
    undone: delta.rows,
    clamped: [...clamped.values()],
  }
}

/**
 * Turn a base tree into the rootfs. Returns its number of packages.
 *
 * @param kept settles when the cache has the base tree
 */
async function fill(
  build: Build,
  wanted: Wanted,
  tree: string,
  { before, undone, clamped }: Clamped,
  kept?: Promise<unknown>,
): Promise<number> {
  const { epochSeconds } = wanted.context
  const { cacheDir } = build.workspace
  const guest: Guest = { root: tree }
  const packages = await build.plan.installed(guest)
  const whole = await wanted.whole
  const known = findDelta(cacheDir, whole.fingerprint, wanted.base)
  let written = known?.written ?? {}
  let entries: TreeEntry[]
  if (known === undefined) {
    const scratchDir = temporaryFor(`${build.output}.scratch`)
    mkdirSync(scratchDir)
    try {
      written = await provision(build, { guest, scratchDir, ...wanted.context })
    } finally {
      discard(scratchDir)
    }
    entries = await settleTimes(tree, build.output, epochSeconds, wanted.startMs)
  } else {
    await applyDelta(tree, known)
    entries = await findTree(tree, build.output)
  }
  const readMs = Date.now()
  if (known === undefined) {
    const rows = deltaRows(before, entries, undone)
    if (rows.length < entries.length * LARGEST_DELTA) {
      const delta: Delta = { base: wanted.base, rows, epochSeconds, clamped, written }
      await saveDelta(cacheDir, whole.fingerprint, tree, delta)
    }
  }
  // What can fail has failed before there is a manifest of this tree under the name of the last one.
  await kept
  finish(build, tree, whole, { packages, written, listing: listEntries(entries) })
  leaveReading(build.output, entries, readMs)
  return packages.length
}

async function provision(
  { settings, choice, plan, logFile }: Build,
  rest: Pick<ProvisionContext, 'guest' | 'agent' | 'version' | 'epochSeconds' | 'scratchDir'>,
): Promise<Written> {
  const written: Record<string, readonly string[]> = {}
  const context: ProvisionContext = {
    ...rest,
    // dracut has taken those modules of the folder that drivers= names.
    settings: settings.DRACUT_KVERSION === '' ? settings : { ...settings, KERNEL_MODULES_DIR: '' },
    arch: choice.arch,
    logFile,
    base: {
      distro: choice.distro,
      release: choice.release,
      packages: plan.packages,
      sources: plan.guestSources,
    },
  }
  for (const step of PROVISION_STEPS) {
    const paths = new Set<string>()
    await step.run({ ...context, guest: { ...rest.guest, onWrite: (path) => paths.add(path) } })
    if (paths.size > 0) written[step.name] = [...paths].sort(compareBytes)
  }
  return written
}

function finish(
  { output, plan, choice }: Build,
  tree: string,
  { fingerprint, inputs }: Whole,
  {
    packages,
    written,
    listing,
  }: {
    readonly packages: readonly InstalledPackage[]
    readonly written: Written
    readonly listing: TreeListing
  },
): void {
  writeFileSync(listingPath(output), listing.lines.join('\n'))
  writeManifest(
    output,
    tree,
    {
      format: 'osbuilder-manifest-1',
      kind: 'rootfs',
      name: basename(output),
      fingerprint,
      inputs,
      result: {
        entries: listing.lines.length,
        packages: packages.map((item) => ({ ...item })),
        why: choice.distro.packages.map(({ packages: names, why }) => ({ packages: names, why })),
        written,
        // With a lock, they and their signers are what it names: see docs/lock.md.
        isLocked: plan.locked !== undefined,
        suites: plan.indexes,
        suitesNotUsed: plan.skipped.map((suite) => ({ ...suite })),
      },
    },
    listing.stamp,
  )
}
