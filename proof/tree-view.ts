// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { posix } from 'node:path'

import { followPath } from '../scripts/guest-path.ts'
import type { TreeEntry } from '../scripts/tree.ts'

/** A tree that is only looked at, its links followed as the guest would. */
export interface TreeView {
  readonly entries: readonly TreeEntry[]
  /** The path below the root that a guest path leads to, whether anything is there or not. */
  readonly resolve: (path: string) => string
  /** As resolve, but a link at the end of the path is itself what is meant. */
  readonly place: (path: string) => string
  /** Content of a file, or undefined when no file is there. */
  readonly bytes: (path: string) => Buffer | undefined
  readonly text: (path: string) => string | undefined
  /** Names in a folder, in byte order; none when no folder is there. */
  readonly list: (path: string) => readonly string[]
}

/** Look at entries as a tree. No entry is opened before it is asked for. */
export function viewTree(entries: readonly TreeEntry[]): TreeView {
  const byPath = new Map(entries.map((entry) => [entry.path, entry]))
  const names = new Map<string, string[]>()
  for (const { path } of entries) {
    if (path === '') continue
    const parent = parentOf(path)
    const own = names.get(parent)
    if (own === undefined) names.set(parent, [posix.basename(path)])
    else own.push(posix.basename(path))
  }
  const folders = new Map<string, string>()
  const folderOf = (folder: string): string => {
    const known = folders.get(folder)
    if (known !== undefined) return known
    const resolved = walk(byPath, folder)
    folders.set(folder, resolved)
    return resolved
  }
  const place = (path: string): string => {
    const plain = path.replace(/^\/+/, '').replace(/\/+$/, '')
    return posix.join(folderOf(parentOf(plain)), posix.basename(plain))
  }
  const resolve = (path: string): string => {
    const inFolder = place(path)
    return byPath.get(inFolder)?.type === 'symlink' ? walk(byPath, inFolder) : inFolder
  }
  const bytes = (path: string): Buffer | undefined => contentOf(byPath.get(resolve(path)))
  return {
    entries,
    resolve,
    place,
    bytes,
    text: (path) => bytes(path)?.toString('utf8'),
    list: (path) => names.get(resolve(path)) ?? [],
  }
}

/** Content of a file's entry; undefined for everything else. */
export function contentOf(entry: TreeEntry | undefined): Buffer | undefined {
  if (entry?.type !== 'file' || entry.source === undefined) return undefined
  return typeof entry.source === 'string' ? readFileSync(entry.source) : Buffer.from(entry.source)
}

function parentOf(path: string): string {
  const parent = posix.dirname(path)
  return parent === '.' || parent === '/' ? '' : parent
}

function walk(byPath: ReadonlyMap<string, TreeEntry>, path: string): string {
  // A loop leads nowhere, and nothing has its path.
  return followPath(path, (place) => byPath.get(place)?.linkTarget) ?? path
}
