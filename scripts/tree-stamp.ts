// SPDX-License-Identifier: Apache-2.0
import { lutimesSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { sha256 } from './digest.ts'
import { findTree } from './tree-find.ts'
import { entryAt, nameBelow } from './tree.ts'
import type { TreeEntry } from './tree.ts'

export interface TreeListing {
  /** Digest of the lines: equal while nobody touched the tree. */
  readonly stamp: string
  /** One line per entry: path, then what changes when it does. */
  readonly lines: readonly string[]
}

const listings = new WeakMap<readonly TreeEntry[], TreeListing>()
const lines = new WeakMap<TreeEntry, string>()

/**
 * List a tree by what the kernel tells of each entry, reading no content.
 *
 * The change time is the one mark that a write cannot hide; the root's own is left out, because
 * renaming the tree changes it. Each line is made once, for a tree is listed by several steps.
 */
export function listEntries(entries: readonly TreeEntry[]): TreeListing {
  const known = listings.get(entries)
  if (known !== undefined) return known
  const told = entries.map(lineOf)
  const listing = { stamp: sha256(told.join('\n')), lines: told }
  listings.set(entries, listing)
  return listing
}

/** The line of an entry in a listing. */
export function lineOf(entry: TreeEntry): string {
  const known = lines.get(entry)
  if (known !== undefined) return known
  const { path, mode, uid, gid, sizeBytes, ctimeMs = 0 } = entry
  const time = path === '' ? 0 : ctimeMs
  const line = `${path.replaceAll('\n', '\\n').replaceAll('\t', '\\t')}\t${mode.toString(8)}\t${uid}\t${gid}\t${sizeBytes}\t${time}`
  lines.set(entry, line)
  return line
}

/** As listEntries, for a folder. */
export async function listTree(root: string): Promise<TreeListing> {
  return listEntries(await findTree(root))
}

/** Paths that differ between two listings, at most `most` of them. */
export function changedPaths(before: readonly string[], after: readonly string[], most: number): string[] {
  const old = new Set(before)
  const now = new Set(after)
  const differing = [...after.filter((line) => !old.has(line)), ...before.filter((line) => !now.has(line))]
  const paths = new Set(differing.map((line) => line.split('\t')[0] ?? ''))
  return [...paths].slice(0, most)
}

/** The lines of a listing that was kept in a file. */
export function readListing(file: string): string[] {
  return readFileSync(file, 'utf8').split('\n')
}

/**
 * Give every entry that a build wrote the build's one clock. Returns the entries as they are then.
 *
 * What packages brought keeps its time; what is as young as the build or younger than the clock was
 * written by the build.
 *
 * @param finalRoot name the root will have when content is read
 * @param startMs when the build began to write
 */
export async function settleTimes(
  root: string,
  finalRoot: string,
  epochSeconds: number,
  startMs: number,
): Promise<TreeEntry[]> {
  const startSeconds = Math.floor(startMs / 1000)
  const entries = await findTree(root, finalRoot)
  return settle({ root, finalRoot }, entries, epochSeconds, Math.min(startSeconds, epochSeconds + 1))
}

/**
 * Give the clock to what is younger than it: a base tree has that of its index, which may be the younger
 * one. Returns the entries as they are then.
 */
export function clampTimes(root: string, entries: readonly TreeEntry[], epochSeconds: number): TreeEntry[] {
  return settle({ root, finalRoot: root }, entries, epochSeconds, epochSeconds + 1)
}

function settle(
  { root, finalRoot }: { readonly root: string; readonly finalRoot: string },
  entries: readonly TreeEntry[],
  epochSeconds: number,
  youngSeconds: number,
): TreeEntry[] {
  const isYoung = ({ mtimeSeconds }: TreeEntry): boolean => mtimeSeconds >= youngSeconds
  // Setting a time does not touch that of the folder, but all names of one inode.
  for (const { path } of entries.filter(isYoung)) lutimesSync(join(root, path), epochSeconds, epochSeconds)
  return entries.map((entry) =>
    isYoung(entry)
      ? entryAt(entry.path, nameBelow(root, entry.path), nameBelow(finalRoot, entry.path))
      : entry,
  )
}
