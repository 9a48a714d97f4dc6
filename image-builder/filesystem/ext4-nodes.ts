// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../../scripts/errors.ts'
import { compareBytes } from '../../scripts/tree.ts'
import type { TreeEntry } from '../../scripts/tree.ts'
import { MAX_NAME_BYTES, directoryBlocks } from './ext4-directory.ts'
import type { DirectoryRecord } from './ext4-directory.ts'
import { INODE_BLOCK_BYTES } from './ext4-extents.ts'
import type { Demand } from './ext4-extents.ts'
import { FIRST_FREE_INODE } from './ext4-geometry.ts'
import { FILE_TYPES, INODE_XATTR_BYTES, MAX_DEVICE } from './ext4-inode.ts'
import { encodeXattrs } from './ext4-xattr.ts'
import type { EncodedXattrs } from './ext4-xattr.ts'

/** Inode of the root directory. Source: ext4/special_inodes.rst */
const ROOT_INODE = 2

/** Names one inode can have. Source: linux/fs/ext4/ext4.h, EXT4_LINK_MAX */
const MAX_LINKS = 65000

/** Length lost+found is made with, so that a full filesystem can be repaired. Unit: bytes. Source: e2fsprogs, mke2fs */
const LOST_AND_FOUND_BYTES = 16384

const LOST_AND_FOUND = 'lost+found'

/** One inode of the tree. */
export interface TreeNode {
  readonly inode: number
  /** The entry of its first name, which decides owner, mode and content. */
  readonly entry: TreeEntry
  readonly linkCount: number
  /** Names in it, `.` and `..` first; empty unless it is a directory. */
  readonly records: readonly DirectoryRecord[]
  readonly xattrs: EncodedXattrs
  readonly demand: Demand
}

interface DraftNode {
  readonly inode: number
  readonly entry: TreeEntry
  linkCount: number
  readonly records: DirectoryRecord[]
}

/** What every inode is made from. */
export interface NodeRequest {
  readonly blockSizeBytes: number
  /** Time of a lost+found that the tree does not have. */
  readonly epochSeconds: number
}

/**
 * The inodes of a tree, directories first, each kind in byte order of the first name.
 *
 * @throws BuildError E_INPUT when the entries are no tree, or hold what ext4 cannot store
 */
export function listNodes(entries: readonly TreeEntry[], request: NodeRequest): readonly TreeNode[] {
  const known = listed.get(entries)
  if (
    known !== undefined &&
    known.request.blockSizeBytes === request.blockSizeBytes &&
    known.request.epochSeconds === request.epochSeconds
  ) {
    return known.nodes
  }
  const nodes = makeNodes(entries, request)
  listed.set(entries, { request, nodes })
  return nodes
}

/** Finding the smallest size and planning for it ask for the nodes of the same tree. */
const listed = new WeakMap<
  readonly TreeEntry[],
  { readonly request: NodeRequest; readonly nodes: readonly TreeNode[] }
>()

function makeNodes(entries: readonly TreeEntry[], request: NodeRequest): TreeNode[] {
  const drafts = draftNodes(withLostAndFound(entries, request))
  const nodes = drafts.map((draft) => finishNode(draft, request.blockSizeBytes))
  const isDirectory = (node: TreeNode): boolean => node.entry.type === 'directory'
  return [...nodes.filter(isDirectory), ...nodes.filter((node) => !isDirectory(node))]
}

function withLostAndFound(entries: readonly TreeEntry[], { epochSeconds }: NodeRequest): TreeEntry[] {
  const found = entries.find(({ path }) => path === LOST_AND_FOUND)
  if (found !== undefined && found.type !== 'directory') {
    throw inputError(LOST_AND_FOUND, `is a ${found.type}, but ext4 needs a directory of that name`)
  }
  const synthetic: TreeEntry = {
    path: LOST_AND_FOUND,
    type: 'directory',
    mode: 0o040700,
    uid: 0,
    gid: 0,
    sizeBytes: 0,
    mtimeSeconds: epochSeconds,
    rdevMajor: 0,
    rdevMinor: 0,
  }
  const all = found === undefined ? [...entries, synthetic] : [...entries]
  return all.sort((a, b) => compareBytes(a.path, b.path))
}

function draftNodes(entries: readonly TreeEntry[]): DraftNode[] {
  const [root, ...others] = entries
  if (root?.path !== '' || root.type !== 'directory') {
    throw new BuildError('E_INPUT', 'root directory: missing from the list of entries')
  }
  const rootNode: DraftNode = {
    inode: ROOT_INODE,
    entry: root,
    linkCount: 2,
    records: dots(ROOT_INODE, ROOT_INODE),
  }
  const byPath = new Map<string, DraftNode>([['', rootNode]])
  const byLinkGroup = new Map<string, DraftNode>()
  let nextInode = FIRST_FREE_INODE + 1

  for (const entry of others) {
    const { parent, name } = placeOf(entry, byPath)
    const isDirectory = entry.type === 'directory'
    const linkGroup = isDirectory ? undefined : entry.linkGroup
    let node = linkGroup === undefined ? undefined : byLinkGroup.get(linkGroup)
    if (node === undefined) {
      const inode = entry.path === LOST_AND_FOUND ? FIRST_FREE_INODE : nextInode++
      const records = isDirectory ? dots(inode, parent.inode) : []
      node = { inode, entry, linkCount: isDirectory ? 1 : 0, records }
      if (linkGroup !== undefined) byLinkGroup.set(linkGroup, node)
      if (isDirectory) parent.linkCount++
    }
    node.linkCount++
    byPath.set(entry.path, node)
    parent.records.push({ name, inode: node.inode, fileType: FILE_TYPES[node.entry.type].code })
  }
  return [...new Set(byPath.values())]
}

function dots(inode: number, parentInode: number): DirectoryRecord[] {
  const fileType = FILE_TYPES.directory.code
  return [
    { name: '.', inode, fileType },
    { name: '..', inode: parentInode, fileType },
  ]
}

function placeOf(
  { path }: TreeEntry,
  byPath: ReadonlyMap<string, DraftNode>,
): { readonly parent: DraftNode; readonly name: string } {
  const slash = path.lastIndexOf('/')
  const name = path.slice(slash + 1)
  const parent = byPath.get(path.slice(0, Math.max(slash, 0)))
  if (parent === undefined || slash === 0) throw inputError(path, 'its parent directory is missing')
  if (parent.entry.type !== 'directory') throw inputError(path, 'its parent is not a directory')
  if (byPath.has(path)) throw inputError(path, 'is listed twice')
  if (name === '' || name === '.' || name === '..' || name.includes('\0')) {
    throw inputError(path, 'is not a name a directory can hold')
  }
  if (Buffer.byteLength(name) > MAX_NAME_BYTES) {
    throw inputError(path, `its name is longer than ${String(MAX_NAME_BYTES)} bytes`)
  }
  return { parent, name }
}

function finishNode(draft: DraftNode, blockSizeBytes: number): TreeNode {
  const { entry, inode } = draft
  checkEntry(entry, blockSizeBytes)
  const path = entry.path
  const xattrs = encodeXattrs(entry.xattrs ?? new Map(), {
    path,
    inodeRoomBytes: INODE_XATTR_BYTES,
    blockSizeBytes,
  })
  const demand = {
    dataBlocks: dataBlocksOf(draft, blockSizeBytes),
    xattrBlocks: xattrs.inBlock === undefined ? (0 as const) : (1 as const),
  }
  return { inode, entry, linkCount: linkCountOf(draft), records: draft.records, xattrs, demand }
}

function linkCountOf({ entry, linkCount }: DraftNode): number {
  if (linkCount <= MAX_LINKS) return linkCount
  // dir_nlink: a directory with more subdirectories says 1, "not counted".
  if (entry.type === 'directory') return 1
  throw inputError(entry.path, `has ${String(linkCount)} names, but ext4 stores ${String(MAX_LINKS)}`)
}

function dataBlocksOf({ entry, inode, records }: DraftNode, blockSizeBytes: number): number {
  switch (entry.type) {
    case 'file':
      return Math.ceil(entry.sizeBytes / blockSizeBytes)
    case 'symlink':
      return Buffer.byteLength(entry.linkTarget ?? '') < INODE_BLOCK_BYTES ? 0 : 1
    case 'directory': {
      const names = records.map(({ name }) => name)
      const minBlocks = inode === FIRST_FREE_INODE ? LOST_AND_FOUND_BYTES / blockSizeBytes : 1
      return Math.max(directoryBlocks(names, blockSizeBytes), minBlocks)
    }
    default:
      return 0
  }
}

function checkEntry(entry: TreeEntry, blockSizeBytes: number): void {
  const { path, source, sizeBytes, rdevMajor, rdevMinor } = entry
  if (entry.type === 'file' && typeof source !== 'string' && (source?.length ?? 0) !== sizeBytes) {
    throw inputError(path, `its content is not ${String(sizeBytes)} bytes long`)
  }
  const targetBytes = Buffer.byteLength(entry.linkTarget ?? '')
  if (entry.type === 'symlink' && (targetBytes === 0 || targetBytes >= blockSizeBytes)) {
    throw inputError(
      path,
      `its target has ${String(targetBytes)} bytes: expected 1 to ${String(blockSizeBytes - 1)}`,
    )
  }
  if (rdevMajor > MAX_DEVICE.major || rdevMinor > MAX_DEVICE.minor) {
    throw inputError(path, `device ${String(rdevMajor)}:${String(rdevMinor)} is beyond what ext4 stores`)
  }
}

function inputError(path: string, problem: string): BuildError {
  return new BuildError('E_INPUT', `${path}: ${problem}`)
}
