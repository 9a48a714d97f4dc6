// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../../scripts/errors.ts'
import { compareBytes } from '../../scripts/tree.ts'
import type { TreeEntry } from '../../scripts/tree.ts'

/** Longest name in a directory of any filesystem here. Unit: bytes. */
const MAX_NAME_BYTES = 255

/** One inode of a tree, with the names that lead to it. */
export interface Node {
  /** The entry of its first name, which decides owner, mode and content. */
  readonly entry: TreeEntry
  /** Counted from 1, in byte order of the first names; the root is 1. */
  readonly number: number
  readonly parent: Node | undefined
  /** Paths of all its names. */
  readonly paths: readonly string[]
  /** What a directory holds, in byte order of the names. */
  readonly children: readonly Child[]
  /** Names of a file; subdirectories of a directory and two more. */
  readonly linkCount: number
}

export interface Child {
  readonly name: string
  readonly node: Node
}

interface Draft {
  readonly entry: TreeEntry
  readonly number: number
  readonly parent: Draft | undefined
  readonly paths: string[]
  readonly children: { readonly name: string; readonly node: Draft }[]
  linkCount: number
}

/**
 * The inodes of a tree in byte order of their first names: names of one link group are one inode.
 *
 * @throws BuildError E_INPUT when the entries are no tree
 */
export function nodesOf(entries: readonly TreeEntry[]): Node[] {
  const byPath = new Map<string, Draft>()
  const byLinkGroup = new Map<string, Draft>()
  const drafts: Draft[] = []
  for (const entry of entries) {
    const { path, type, linkGroup } = entry
    if (byPath.has(path)) throw inputError(path, 'is listed twice')
    const slash = path.lastIndexOf('/')
    const parent = path === '' ? undefined : byPath.get(path.slice(0, Math.max(slash, 0)))
    const isDirectory = type === 'directory'
    if (path === '' ? !isDirectory : parent?.entry.type !== 'directory')
      throw inputError(path, path === '' ? 'the root is not a directory' : 'its parent directory is missing')
    const known = isDirectory || linkGroup === undefined ? undefined : byLinkGroup.get(linkGroup)
    const node = known ?? { entry, number: drafts.length + 1, parent, paths: [], children: [], linkCount: 0 }
    if (known === undefined) {
      checkContent(entry)
      drafts.push(node)
      if (linkGroup !== undefined && !isDirectory) byLinkGroup.set(linkGroup, node)
    }
    node.paths.push(path)
    node.linkCount += isDirectory ? 2 : 1
    byPath.set(path, node)
    if (parent === undefined) continue
    const name = path.slice(slash + 1)
    checkName(path, name)
    parent.children.push({ name, node })
    if (isDirectory) parent.linkCount += 1
  }
  // Entries are in order of whole paths, in which a/b stands after a-c: not so the names of one folder.
  for (const { children } of drafts) children.sort((a, b) => compareBytes(a.name, b.name))
  return drafts
}

function checkName(path: string, name: string): void {
  if (name === '' || name === '.' || name === '..' || name.includes('\0'))
    throw inputError(path, 'is not a name a directory can hold')
  if (Buffer.byteLength(name) > MAX_NAME_BYTES)
    throw inputError(path, `its name is longer than ${String(MAX_NAME_BYTES)} bytes`)
}

function checkContent({ path, type, source, sizeBytes, linkTarget }: TreeEntry): void {
  if (type === 'file' && typeof source !== 'string' && (source?.length ?? 0) !== sizeBytes)
    throw inputError(path, `its content is not ${String(sizeBytes)} bytes long`)
  const targetBytes = Buffer.byteLength(linkTarget ?? '')
  if (type === 'symlink' && (targetBytes === 0 || targetBytes > 4095))
    throw inputError(path, `its target has ${String(targetBytes)} bytes: expected 1 to 4095`)
}

/** The error for an entry that cannot be packed. */
export function inputError(path: string, problem: string): BuildError {
  return new BuildError('E_INPUT', `${path === '' ? '/' : path}: ${problem}`)
}
