// SPDX-License-Identifier: Apache-2.0
import {
  appendFileSync,
  createWriteStream,
  existsSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
} from 'node:fs'

import { sha256 } from '../scripts/digest.ts'
import { listingPath, outputStamp, readRemembered, rememberedPath } from '../scripts/manifest.ts'
import { changeFolder, discard, temporaryFor, writeWhole } from '../scripts/temporary.ts'
import { lineOf } from '../scripts/tree-stamp.ts'
import type { TreeEntry } from '../scripts/tree.ts'
import { packNewc } from './pack.ts'
import { keepParts } from './parts.ts'

/** Segments of an initrd begin at multiples of it. Source: Linux, init/initramfs.c, unpack_to_rootfs. */
const SEGMENT_ALIGNMENT_BYTES = 4

/** A segment with more entries than this part of all is not worth it. */
const LARGEST_PART = 0.25

/** What is remembered of an initrd to which a segment may be added. */
export interface SegmentBase {
  /** Digest of all inputs but the rootfs. */
  readonly inputs: string
  /** Length of the archive that holds everything. Unit: bytes. */
  readonly sizeBytes: number
  /** The initrd as it was left. */
  readonly stamp: string
  /** Digest of the list of its entries, which is in a file of its own: see listEntries. */
  readonly listing: string
}

/** Remember an initrd that was packed whole, so that what changes next can be added to it. */
export function rememberBase(
  output: string,
  packed: string,
  inputs: string,
  entries: readonly TreeEntry[],
): void {
  forgetBase(output)
  const listing = entries.map(lineOf).join('\n')
  writeWhole(listingPath(output), listing)
  const base = {
    inputs,
    sizeBytes: statSync(packed).size,
    stamp: outputStamp(packed),
    listing: sha256(listing),
  }
  rememberAs(output, base)
}

function rememberAs(output: string, base: SegmentBase): void {
  writeWhole(rememberedPath(output, 'dev'), JSON.stringify(base))
}

/** Forget what could be added to; the initrd is packed whole next time. */
export function forgetBase(output: string): void {
  for (const file of [rememberedPath(output, 'dev'), listingPath(output)]) rmSync(file, { force: true })
}

export interface Segment {
  readonly base: SegmentBase
  /** What is other than in the base. */
  readonly entries: readonly TreeEntry[]
}

/**
 * What must be added to the initrd that is there to make it one of `entries`, or undefined when it must
 * be packed whole: because there is none of ours, or a name went away, which no segment can tell.
 */
export function planSegment(
  output: string,
  inputs: string,
  entries: readonly TreeEntry[],
): Segment | undefined {
  const base = readRemembered(output, 'dev') as SegmentBase | undefined
  if (base === undefined || !existsSync(output)) return undefined
  if (base.inputs !== inputs || base.stamp !== outputStamp(output)) return undefined
  const lines = baseLines(output, base)
  const changed = lines === undefined ? undefined : changedEntries(lines, entries)
  return changed === undefined ? undefined : { base, entries: changed }
}

/** The lines of a base, or undefined when they are not those that were written with it. */
function baseLines(output: string, base: SegmentBase): string[] | undefined {
  const file = listingPath(output)
  const text = existsSync(file) ? readFileSync(file, 'utf8') : ''
  return sha256(text) === base.listing ? text.split('\n') : undefined
}

/** The entries whose line is new, with the folders they are in; undefined when a segment cannot hold the difference or is not worth it. */
export function changedEntries(
  before: readonly string[],
  entries: readonly TreeEntry[],
): TreeEntry[] | undefined {
  // Both are in the order of the names, and most are the same: one walk, in which a name that is gone is never passed.
  let at = 0
  const changed = entries.filter((entry) => {
    const line = lineOf(entry)
    const old = before[at]
    const isSame = old === line
    if (isSame || (old !== undefined && nameOf(old) === nameOf(line))) at += 1
    return !isSame
  })
  const isNameGone = at < before.length
  // Names of one inode would come apart.
  const isLinked = changed.some(({ linkGroup }) => linkGroup !== undefined)
  if (isNameGone || isLinked || changed.length > entries.length * LARGEST_PART) return undefined
  // Each archive is read for itself: a name whose folder is not in it would be refused.
  const wanted = new Set(changed.flatMap(({ path }) => [path, ...foldersOf(path)]))
  return entries.filter(({ path }) => wanted.has(path))
}

/** `a/b/c` is in `a/b`, in `a` and in the root. */
function foldersOf(path: string): string[] {
  const parts = path.split('/').slice(0, -1)
  return ['', ...parts.map((_, index) => parts.slice(0, index + 1).join('/'))]
}

function nameOf(line: string): string {
  return line.slice(0, line.indexOf('\t'))
}

/**
 * Put a segment after the base, in place of the one that is there. The kernel unpacks one after the
 * other, and the later file wins. Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst
 *
 * The initrd is changed under a temporary name. When that fails it is gone, and packed whole next time.
 *
 * @param finish is told the temporary name of the initrd when it is complete
 */
export async function addSegment(
  output: string,
  { base, entries }: Segment,
  epochSeconds: number,
  finish: (file: string) => void,
): Promise<void> {
  const archive = temporaryFor(`${output}.segment`)
  try {
    // In a file first: what can fail fails before the initrd is touched.
    await packNewc(entries, createWriteStream(archive, { flags: 'wx' }), { epochSeconds })
    await changeFolder(
      output,
      (temporary) => {
        truncateSync(temporary, base.sizeBytes)
        const padding = (SEGMENT_ALIGNMENT_BYTES - (base.sizeBytes % SEGMENT_ALIGNMENT_BYTES)) % 4
        appendFileSync(temporary, Buffer.concat([Buffer.alloc(padding), readFileSync(archive)]))
        finish(temporary)
        keepParts(output, base.stamp, temporary)
        rememberAs(output, { ...base, stamp: outputStamp(temporary) })
        return Promise.resolve()
      },
      (temporary) => {
        truncateSync(temporary, base.sizeBytes)
        forgetBase(output)
        return Promise.resolve()
      },
    )
  } finally {
    discard(archive)
  }
}
