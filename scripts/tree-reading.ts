// SPDX-License-Identifier: Apache-2.0
import { listEntries } from './tree-stamp.ts'
import type { TreeEntry } from './tree.ts'

/** A reading older than this is made anew: somebody may have edited the tree since. Unit: ms. */
const FRESH_MS = 1000

let left: { readonly folder: string; readonly entries: readonly TreeEntry[]; readonly ms: number } | undefined

/**
 * Leave the entries of a tree as they are known after it was built, for a step that packs it in this process.
 *
 * @param ms when they were read
 */
export function leaveReading(folder: string, entries: readonly TreeEntry[], ms: number): void {
  left = { folder, entries, ms }
}

/**
 * The reading that was left of a tree, once, when it is fresh and of the tree with this stamp: another
 * process may have built another one there meanwhile.
 */
export function takeReading(
  folder: string,
  stamp: string | undefined,
  nowMs: number = Date.now(),
): readonly TreeEntry[] | undefined {
  const reading = left
  left = undefined
  if (reading?.folder !== folder || nowMs - reading.ms > FRESH_MS) return undefined
  return listEntries(reading.entries).stamp === stamp ? reading.entries : undefined
}
