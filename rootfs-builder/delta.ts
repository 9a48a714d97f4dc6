// SPDX-License-Identifier: Apache-2.0
import { existsSync, lstatSync, readFileSync, rmSync, utimesSync } from 'node:fs'
import { join, posix } from 'node:path'

import { capture } from '../scripts/run.ts'
import { compareBytes } from '../scripts/tree.ts'
import type { TreeEntry } from '../scripts/tree.ts'
import { withTemporary, writeWhole } from '../scripts/temporary.ts'
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

/** Turn a provisioned tree back into its base tree. */
export async function undoDelta(tree: string, rows: readonly DeltaRow[], baseTar: string): Promise<void> {
  await replace(
    tree,
    rows.map(({ path, was }) => ({ path, want: was })),
    baseTar,
  )
}

/** Turn a base tree into the provisioned tree that the delta was kept of. */
export async function applyDelta(tree: string, delta: Delta, deltaTar: string): Promise<void> {
  await replace(
    tree,
    delta.rows.map(({ path, is }) => ({ path, want: is })),
    deltaTar,
  )
}

interface Wanted {
  readonly path: string
  readonly want: Kind
}

async function replace(tree: string, wanted: readonly Wanted[], tarFile: string): Promise<void> {
  for (const { path, want } of wanted) {
    const status = lstatSync(join(tree, path), { throwIfNoEntry: false })
    if (status === undefined || (want === 'directory' && status.isDirectory())) continue
    rmSync(join(tree, path), { recursive: true })
  }
  const present = wanted.filter(({ want }) => want !== 'absent').map(({ path }) => path)
  // The archive is sought through, not read: most of it is content of other members.
  await tarNames(['--extract', '--seek', '--file', tarFile, '--directory', tree, ...UNPACK_FLAGS], present)
}

/** Run tar on just these paths, named as mmdebstrap names them. */
async function tarNames(argv: readonly string[], paths: readonly string[]): Promise<void> {
  await capture(['tar', ...argv, '--no-recursion', '--null', '--files-from=-'], {
    input: paths.map((path) => `./${path}\0`).join(''),
  })
}

/** Path of the tar of a delta in the cache: the paths that the provisioned tree has. */
export function deltaTar(cacheDir: string, fingerprint: string): string {
  return join(cacheDir, 'provisioned', `${fingerprint}.tar`)
}

function rowsFile(cacheDir: string, fingerprint: string): string {
  return join(cacheDir, 'provisioned', `${fingerprint}.json`)
}

/** The delta that was kept of a provisioned tree on that base, if any; it counts as used now. */
export function findDelta(cacheDir: string, fingerprint: string, base: string): Delta | undefined {
  const tar = deltaTar(cacheDir, fingerprint)
  const file = rowsFile(cacheDir, fingerprint)
  if (!existsSync(tar) || !existsSync(file)) return undefined
  const delta = JSON.parse(readFileSync(file, 'utf8')) as Delta
  if (delta.base !== base) return undefined
  utimesSync(tar, new Date(), new Date())
  return delta
}

/** Keep what provisioning made of a base tree. The rows come last: where they are, the tar is whole. */
export async function saveDelta(
  cacheDir: string,
  fingerprint: string,
  tree: string,
  delta: Delta,
): Promise<void> {
  const present = delta.rows.filter(({ is }) => is !== 'absent').map(({ path }) => path)
  await withTemporary(deltaTar(cacheDir, fingerprint), (temporary) =>
    tarNames(
      ['--create', '--file', temporary, '--directory', tree, '--format=pax', '--numeric-owner', '--xattrs'],
      present,
    ),
  )
  writeWhole(rowsFile(cacheDir, fingerprint), JSON.stringify(delta))
}
