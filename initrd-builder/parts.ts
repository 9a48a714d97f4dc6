// SPDX-License-Identifier: Apache-2.0
import { existsSync, rmSync } from 'node:fs'

import { sha256 } from '../scripts/digest.ts'
import { outputStamp, readRemembered, rememberedPath } from '../scripts/manifest.ts'
import { writeWhole } from '../scripts/temporary.ts'
import type { TreeEntry } from '../scripts/tree.ts'
import { entrySizeBytes, newcSizeBytes } from './newc.ts'
import type { NewcEntry } from './newc.ts'
import type { NewcPart } from './pack.ts'

/** A part is at least this share of the wanted size, and cut there or soon after … */
const LEAST_SHARE = 0.75

/** … at the first of these names: one in so many, whatever is around it. */
const CUT_ONE_IN = 16

/** A part grows to this share when no such name comes, and beyond it only for one large file. */
const MOST_SHARE = 1.5

/** A part of an archive, with what tells it from others. */
export interface KeyedPart extends NewcPart {
  /** Digest of all that decides its bytes: headers, and of each file what changes when its content does. */
  readonly key: string
}

/**
 * Cut an archive into parts of about `wantedBytes`. Where is decided by names and sizes near by, so a
 * change alters its own part and mostly no other.
 *
 * @param tree the entries that `described` was made from, in the same order
 */
export function cutParts(
  tree: readonly TreeEntry[],
  described: readonly NewcEntry[],
  wantedBytes: number,
): KeyedPart[] {
  const parts: KeyedPart[] = []
  let leftBytes = newcSizeBytes(described)
  let start = 0
  let partBytes = 0
  const cut = (end: number, sizeBytes: number): void => {
    const entries = described.slice(start, end)
    const lines = entries.map((entry, index) => lineOf(entry, tree[start + index]))
    parts.push({ entries, sizeBytes, key: sha256(lines.join('\n')) })
    leftBytes -= sizeBytes
    start = end
    partBytes = 0
  }
  for (const [index, entry] of described.entries()) {
    const sizeBytes = entrySizeBytes(entry)
    const isMark = entry.header.ino % CUT_ONE_IN === 0 && partBytes >= wantedBytes * LEAST_SHARE
    const isFull = partBytes + sizeBytes > wantedBytes * MOST_SHARE
    if (partBytes > 0 && (isMark || isFull) && !isDevice(entry)) cut(index, partBytes)
    partBytes += sizeBytes
  }
  cut(described.length, leftBytes)
  return parts
}

/** A part cannot begin with a device: see zstd-frame.ts. */
function isDevice({ header }: NewcEntry): boolean {
  return header.rdevmajor !== 0 || header.rdevminor !== 0
}

function lineOf({ header, body }: NewcEntry, entry: TreeEntry | undefined): string {
  const { name, linkname = '', mode, uid, gid, nlink, ino, mtime, size, rdevmajor, rdevminor } = header
  const content = typeof body?.source === 'object' ? sha256(body.source) : (entry?.ctimeMs ?? 0)
  const words = [name, linkname, mode, uid, gid, nlink, ino, mtime.getTime(), size, rdevmajor, rdevminor]
  // What has no body here is known by its header.
  return [...words, body === undefined ? '' : content].join('\t').replaceAll('\n', '\\n')
}

/** Where a part is in an initrd. */
export interface PlacedPart {
  readonly key: string
  readonly offsetBytes: number
  readonly sizeBytes: number
  /** See FrameBlocks. */
  readonly window: number
}

interface PartsIndex {
  /** Digest of all inputs but the rootfs. */
  readonly inputs: string
  /** The initrd as it was left. */
  readonly stamp: string
  readonly parts: readonly PlacedPart[]
}

/** The parts of the initrd that is there, by their keys; none when it is not the one that was left. */
export function earlierParts(output: string, inputs: string): ReadonlyMap<string, PlacedPart> {
  const index = readIndex(output)
  const isLeft = index?.inputs === inputs && existsSync(output) && index.stamp === outputStamp(output)
  return new Map(isLeft ? index.parts.map((part) => [part.key, part]) : [])
}

/** Remember where the parts of an initrd are, so that the next one can take them. */
export function rememberParts(
  output: string,
  packed: string,
  inputs: string,
  parts: readonly PlacedPart[],
): void {
  const index: PartsIndex = { inputs, stamp: outputStamp(packed), parts }
  writeWhole(rememberedPath(output, 'parts'), JSON.stringify(index))
}

/** Something was put behind the initrd that had this stamp: its parts are where they were. */
export function keepParts(output: string, stamp: string, packed: string): void {
  const index = readIndex(output)
  if (index?.stamp === stamp) rememberParts(output, packed, index.inputs, index.parts)
}

/** Forget the parts; the next initrd is packed whole. */
export function forgetParts(output: string): void {
  rmSync(rememberedPath(output, 'parts'), { force: true })
}

function readIndex(output: string): PartsIndex | undefined {
  return readRemembered(output, 'parts') as PartsIndex | undefined
}
