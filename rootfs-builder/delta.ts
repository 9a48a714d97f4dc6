// SPDX-License-Identifier: Apache-2.0
import { lstatSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, posix } from 'node:path'

import { findEntry, makeEntry } from '../scripts/cache.ts'
import { BuildError } from '../scripts/errors.ts'
import { capture } from '../scripts/run.ts'
import { compareBytes } from '../scripts/tree.ts'
import type { TreeEntry } from '../scripts/tree.ts'
import { UNPACK_FLAGS } from './base-tree.ts'

/**
 * What provisioning made of a base tree: the stage between the base tree in the cache and the rootfs.
 *
 * A few dozen paths of some eight thousand differ. Keeping just these lets the next rootfs start from
 * the last one: they are put back to the base tree, and nothing else is touched or copied.
 */
export interface Delta {
  /** Fingerprint of the base tree. */
  readonly base: string
  /** In byte order of the paths. */
  readonly rows: readonly DeltaRow[]
  /** The clock of the provisioned tree. Unit: seconds since 1970. */
  readonly epochSeconds: number
  /** What else is other than in the base tree, in its time alone: it was younger than that clock. */
  readonly clamped: readonly DeltaRow[]
  readonly written: Written
}

/** What provisioning wrote: paths below the root by the name of the step, which `make sbom` names them by. */
export type Written = Readonly<Record<string, readonly string[]>>

/** A delta in the cache. */
export interface KeptDelta extends Delta {
  /** The paths that the provisioned tree has. */
  readonly tarFile: string
}

type Kind = 'absent' | 'directory' | 'other'

export interface DeltaRow {
  /** Path below the root; `''` for the root itself. */
  readonly path: string
  /** What the base tree has there. */
  readonly was: Kind
  /** What the provisioned tree has there. */
  readonly is: Kind
}

/**
 * The paths whose inode changed between two readings of a tree, and the folders they are in: putting a
 * file back changes the time of its folder, so that has to be put back as well.
 *
 * @param earlier rows of a delta that was undone in between; they are part of the new one
 */
export function deltaRows(
  before: readonly TreeEntry[],
  after: readonly TreeEntry[],
  earlier: readonly DeltaRow[] = [],
): DeltaRow[] {
  const old = new Map(before.map((entry) => [entry.path, entry]))
  const now = new Map(after.map((entry) => [entry.path, entry]))
  const differing = [
    ...before.filter(({ path }) => !now.has(path)),
    ...after.filter((entry) => !isSame(old.get(entry.path), entry)),
  ]
  const paths = new Set(['', ...earlier.map(({ path }) => path)])
  for (const { path } of differing) paths.add(path).add(parentOf(path))
  const inBase = new Map(earlier.map(({ path, was }) => [path, was]))
  return [...paths]
    .sort(compareBytes)
    .map((path) => ({
      path,
      was: inBase.get(path) ?? kindOf(old.get(path)),
      is: kindOf(now.get(path)),
    }))
    .filter(({ was, is }) => was !== 'absent' || is !== 'absent')
}

function isSame(a: TreeEntry | undefined, b: TreeEntry): boolean {
  return a !== undefined && a.ctimeMs === b.ctimeMs && a.mode === b.mode && a.sizeBytes === b.sizeBytes
}

function kindOf(entry: TreeEntry | undefined): Kind {
  if (entry === undefined) return 'absent'
  return entry.type === 'directory' ? 'directory' : 'other'
}

function parentOf(path: string): string {
  const parent = posix.dirname(path)
  return parent === '.' ? '' : parent
}

/** What to undo of a delta for a base tree with this clock: with the same one, what has only its time stays. */
export function rowsToUndo(delta: Delta, epochSeconds: number): readonly DeltaRow[] {
  if (delta.epochSeconds === epochSeconds) return delta.rows
  const folders = delta.clamped.map(({ path }) => parentOf(path))
  const rows = new Map<string, DeltaRow>(
    folders.map((path) => [path, { path, was: 'directory', is: 'directory' }]),
  )
  for (const row of [...delta.clamped, ...delta.rows]) rows.set(row.path, row)
  return [...rows.values()].sort((a, b) => compareBytes(a.path, b.path))
}

/** Rows of the entries of a base tree that are younger than a clock. */
export function clampedRows(entries: readonly TreeEntry[], epochSeconds: number): DeltaRow[] {
  return entries
    .filter(({ mtimeSeconds }) => mtimeSeconds > epochSeconds)
    .map((entry) => ({ path: entry.path, was: kindOf(entry), is: kindOf(entry) }))
}

/** Turn a provisioned tree back into its base tree. */
export async function undoDelta(tree: string, rows: readonly DeltaRow[], baseTar: string): Promise<void> {
  await replace(
    tree,
    rows.map(({ path, was }) => ({ path, want: was })),
    baseTar,
  )
}

/** Turn a base tree that has its clock into the provisioned tree that the delta was kept of. */
export async function applyDelta(tree: string, delta: KeptDelta): Promise<void> {
  await replace(
    tree,
    delta.rows.map(({ path, is }) => ({ path, want: is })),
    delta.tarFile,
  )
}

interface Wanted {
  readonly path: string
  readonly want: Kind
}

async function replace(tree: string, wanted: readonly Wanted[], tarFile: string): Promise<void> {
  for (const { path, want } of wanted) {
    // A delta may be another machine's, and a tree's own links may point out of it.
    if (!staysIn(tree, path)) {
      throw new BuildError('E_INPUT', `${tarFile}: its delta has a path that leads out of the tree`, {
        because: [JSON.stringify(path)],
        hint: 'make cache-clean KEEP=0    and a REMOTE_CACHE that only people you trust may push to',
      })
    }
    const status = lstatSync(join(tree, path), { throwIfNoEntry: false })
    if (status === undefined || (want === 'directory' && status.isDirectory())) continue
    rmSync(join(tree, path), { recursive: true })
  }
  const present = wanted.filter(({ want }) => want !== 'absent').map(({ path }) => path)
  // The archive is sought through, not read: most of it is content of other members.
  await tarNames(['--extract', '--seek', '--file', tarFile, '--directory', tree, ...UNPACK_FLAGS], present)
}

/** True for a path below the root that passes no link. Paths before it are put right already, its folders among them. */
function staysIn(tree: string, path: string): boolean {
  if (path === '') return true
  const parts = path.split('/')
  if (parts.some((part) => ['', '.', '..'].includes(part))) return false
  return parts.slice(0, -1).every((_, index) => {
    const folder = join(tree, ...parts.slice(0, index + 1))
    return lstatSync(folder, { throwIfNoEntry: false })?.isSymbolicLink() !== true
  })
}

/** Run tar on just these paths, named as mmdebstrap names them. */
async function tarNames(argv: readonly string[], paths: readonly string[]): Promise<void> {
  await capture(['tar', ...argv, '--no-recursion', '--null', '--files-from=-'], {
    input: paths.map((path) => `./${path}\0`).join(''),
  })
}

/** Files of a delta in the cache. */
export const ROWS_FILE = 'delta.json'
export const PATHS_TAR = 'paths.tar'

/** The delta in the cache of a provisioned tree on that base, if any. */
export function findDelta(cacheDir: string, fingerprint: string, base: string): KeptDelta | undefined {
  const folder = findEntry(cacheDir, 'provisioned', fingerprint)
  if (folder === undefined) return undefined
  const kept = JSON.parse(readFileSync(join(folder, ROWS_FILE), 'utf8')) as Delta
  // One that was kept before times were told apart has all in its rows.
  const delta = { ...{ epochSeconds: -1, clamped: [] }, ...kept }
  return delta.base === base ? { ...delta, tarFile: join(folder, PATHS_TAR) } : undefined
}

/** Keep what provisioning made of a base tree. */
export async function saveDelta(
  cacheDir: string,
  fingerprint: string,
  tree: string,
  delta: Delta,
): Promise<void> {
  const present = delta.rows.filter(({ is }) => is !== 'absent').map(({ path }) => path)
  await makeEntry(cacheDir, 'provisioned', fingerprint, async (folder) => {
    const tar = join(folder, PATHS_TAR)
    await tarNames(
      ['--create', '--file', tar, '--directory', tree, '--format=pax', '--numeric-owner', '--xattrs'],
      present,
    )
    writeFileSync(join(folder, ROWS_FILE), JSON.stringify(delta))
  })
}
