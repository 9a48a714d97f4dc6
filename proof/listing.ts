// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import { closeSync, openSync, readSync } from 'node:fs'

import { sha256 } from '../scripts/digest.ts'
import type { EntryType, TreeEntry } from '../scripts/tree.ts'

/** Everything of an entry that a guest can see, and nothing of the machine that built it. */
export interface ListedEntry {
  readonly path: string
  readonly type: EntryType
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly sizeBytes: number
  readonly mtimeSeconds: number
  readonly device: string
  readonly linkTarget: string
  /** Of a file's content; `''` for everything else. */
  readonly sha256: string
  readonly sha1: string
  /** `name=hex` in byte order of the names. */
  readonly xattrs: readonly string[]
  /** Path of the first name of the inode; `''` when it has one name. */
  readonly linkedWith: string
}

const CHUNK_BYTES = 1024 * 1024

/**
 * List a tree by content.
 *
 * @param clockSeconds times after it are given as it, as the packers write them
 */
export function listContent(entries: readonly TreeEntry[], clockSeconds: number = Infinity): ListedEntry[] {
  const first = new Map<string, string>()
  for (const { path, linkGroup } of entries) {
    if (linkGroup !== undefined && !first.has(linkGroup)) first.set(linkGroup, path)
  }
  return entries.map((entry) => ({
    path: entry.path,
    type: entry.type,
    mode: entry.mode & 0o7777,
    uid: entry.uid,
    gid: entry.gid,
    sizeBytes: entry.sizeBytes,
    mtimeSeconds: Math.min(entry.mtimeSeconds, clockSeconds),
    device: entry.type.endsWith('-device') ? `${String(entry.rdevMajor)}:${String(entry.rdevMinor)}` : '',
    linkTarget: entry.linkTarget ?? '',
    ...digestsOf(entry),
    xattrs: [...(entry.xattrs ?? [])]
      .map(([name, value]) => `${name}=${Buffer.from(value).toString('hex')}`)
      .sort(),
    linkedWith: entry.linkGroup === undefined ? '' : (first.get(entry.linkGroup) ?? ''),
  }))
}

/** sha256 and sha1 of a file's content, read once. SPDX wants the second. */
function digestsOf({ type, source }: TreeEntry): { readonly sha256: string; readonly sha1: string } {
  if (type !== 'file' || source === undefined) return { sha256: '', sha1: '' }
  const long = createHash('sha256')
  const short = createHash('sha1')
  if (typeof source !== 'string') {
    return { sha256: long.update(source).digest('hex'), sha1: short.update(source).digest('hex') }
  }
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES)
  const descriptor = openSync(source, 'r')
  try {
    for (let count = 1; count > 0;) {
      count = readSync(descriptor, buffer, 0, buffer.length, null)
      long.update(buffer.subarray(0, count))
      short.update(buffer.subarray(0, count))
    }
  } finally {
    closeSync(descriptor)
  }
  return { sha256: long.digest('hex'), sha1: short.digest('hex') }
}

/** Digest of a listing: equal for equal trees, on whatever machine. */
export function listingDigest(listing: readonly ListedEntry[]): string {
  return sha256(listing.map((entry) => JSON.stringify(entry)).join('\n'))
}
