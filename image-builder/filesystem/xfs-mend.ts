// SPDX-License-Identifier: Apache-2.0
import type { TreeEntry } from '../../scripts/tree.ts'
import { nodesOf } from './nodes.ts'
import type { Node } from './nodes.ts'
import { FLAGS2, FORMAT, INODE, extentsOf, seal } from './xfs-file.ts'
import type { XfsFile } from './xfs-file.ts'
import { standInFor } from './xfs-proto.ts'
import { encodeAttributes, putAttributes } from './xfs-xattr.ts'

/** Where blocks of a directory stop to hold names. Unit: bytes. Source: XFS_DIR2_LEAF_OFFSET */
const NAMES_END_BYTES = 2n ** 35n

/** Header of a block of a directory, and the place of its checksum. Unit: bytes. Source: struct xfs_dir3_data_hdr */
const DIRECTORY_BLOCK = { headerBytes: 64, checksumAt: 4 } as const

/** A directory of one block, which has its index at its end: `XDB3`. */
const SINGLE_MAGIC = 0x58444233

/** Number of a file in a directory, where it can be changed. */
interface Found {
  readonly name: string
  readonly inode: bigint
  readonly change: (inode: bigint) => void
  /** Give it another name of the same length and hash. */
  readonly rename: (name: Uint8Array) => void
}

/**
 * Give an XFS that mkfs.xfs filled by a prototype what that cannot say: times, all bits of the modes,
 * second names of files, and extended attributes.
 *
 * @returns true when names or attributes were, so that the lists of used inodes must be made again
 */
export function mendXfs(xfs: XfsFile, entries: readonly TreeEntry[], epochSeconds: number): boolean {
  const nodes = nodesOf(entries)
  const inodes = new Map<Node, bigint>()
  const spare: { readonly inode: bigint; readonly node: Node; readonly change: (inode: bigint) => void }[] =
    []
  const renames: (() => void)[] = []
  let isChanged = false
  const mend = (node: Node, inode: bigint): void => {
    inodes.set(node, inode)
    const at = xfs.inodeAt(inode)
    const bytes = xfs.read(at, xfs.inodeBytes)
    if (node.entry.type === 'directory') {
      const { found, save } = namesIn(xfs, bytes)
      const path = node.entry.path === '' ? '' : `${node.entry.path}/`
      for (const child of node.children) {
        const standIn = standInFor(child.name)
        const name = found.get(standIn)
        if (name === undefined) throw new Error(`mkfs.xfs left out ${path}${child.name}`)
        const bytesOfName = Buffer.from(child.name)
        if (bytesOfName.toString('latin1') !== standIn)
          renames.push(() => {
            name.rename(bytesOfName)
            save()
          })
        if (child.node.entry.path === `${path}${child.name}`) mend(child.node, name.inode)
        else
          spare.push({
            inode: name.inode,
            node: child.node,
            change: (to) => {
              name.change(to)
              save()
            },
          })
      }
    }
    setFacts(bytes, node, epochSeconds)
    const attributes = encodeAttributes(node.entry)
    if (attributes.length > 0) {
      putAttributes(bytes, attributes, usedBytes(xfs, bytes), node.entry.path)
      seal(bytes, INODE.checksum)
      isChanged = true
    }
    // A change of a name in the inode itself comes later, and writes it again.
    xfs.write(at, bytes)
  }
  const [root] = nodes
  if (root !== undefined) mend(root, xfs.rootInode)
  for (const inode of xfs.hiddenInodes) {
    const at = xfs.inodeAt(inode)
    const bytes = xfs.read(at, xfs.inodeBytes)
    setTimes(bytes, epochSeconds, epochSeconds)
    seal(bytes, INODE.checksum)
    xfs.write(at, bytes)
  }
  for (const rename of renames) rename()
  for (const { inode, node, change } of spare) {
    change(inodes.get(node) ?? 0n)
    clear(xfs, inode)
  }
  return isChanged || spare.length > 0 || renames.length > 0
}

/** Bytes of an inode that its own content takes. */
function usedBytes(xfs: XfsFile, inode: Buffer): number {
  switch (inode[INODE.format]) {
    case FORMAT.local:
      return Number(inode.readBigUInt64BE(INODE.sizeBytes))
    case FORMAT.extents:
      return extentsOf(xfs, inode).length * 16
    case FORMAT.device:
      return 8
    default:
      return inode.length
  }
}

function setTimes(bytes: Buffer, epochSeconds: number, mtimeSeconds: number): void {
  const isBig = (bytes.readBigUInt64BE(INODE.flags2) & FLAGS2.bigTime) !== 0n
  const setTime = (at: number, seconds: number): void => {
    if (isBig) bytes.writeBigUInt64BE((BigInt(seconds) + 2n ** 31n) * 1_000_000_000n, at)
    else bytes.writeBigUInt64BE(BigInt(seconds) << 32n, at)
  }
  for (const at of [INODE.accessTime, INODE.changeTime, INODE.createTime]) setTime(at, epochSeconds)
  setTime(INODE.modifyTime, Math.min(mtimeSeconds, epochSeconds))
}

function setFacts(bytes: Buffer, { entry, linkCount }: Node, epochSeconds: number): void {
  setTimes(bytes, epochSeconds, entry.mtimeSeconds)
  bytes.writeUInt16BE(entry.mode & 0xffff, INODE.mode)
  bytes.writeUInt32BE(linkCount, INODE.linkCount)
  seal(bytes, INODE.checksum)
}

/** Make an inode one that nobody uses. */
function clear(xfs: XfsFile, inode: bigint): void {
  const at = xfs.inodeAt(inode)
  const bytes = xfs.read(at, xfs.inodeBytes)
  bytes.writeUInt16BE(0, INODE.mode)
  bytes.writeUInt32BE(0, INODE.linkCount)
  bytes.writeUInt8(FORMAT.extents, INODE.format)
  for (const time of [INODE.accessTime, INODE.modifyTime, INODE.changeTime, INODE.createTime])
    bytes.writeBigUInt64BE(0n, time)
  seal(bytes, INODE.checksum)
  xfs.write(at, bytes)
}

interface Names {
  readonly found: ReadonlyMap<string, Found>
  /** Write what was changed. */
  readonly save: () => void
}

/** The names in a directory, `.` and `..` left out. */
function namesIn(xfs: XfsFile, inode: Buffer): Names {
  return inode[INODE.format] === FORMAT.local ? namesInInode(xfs, inode) : namesInBlocks(xfs, inode)
}

/** A short directory: two counts, the parent, then length, place, name, type and number of each. */
function namesInInode(xfs: XfsFile, inode: Buffer): Names {
  const start = INODE.content
  const count = inode.readUInt8(start)
  const isWide = inode.readUInt8(start + 1) > 0
  const numberBytes = isWide ? 8 : 4
  const found = new Map<string, Found>()
  let at = start + 2 + numberBytes
  for (let index = 0; index < count; index++) {
    const length = inode.readUInt8(at)
    const nameAt = at + 3
    const name = inode.toString('latin1', nameAt, nameAt + length)
    const numberAt = at + 3 + length + 1
    const number = isWide ? inode.readBigUInt64BE(numberAt) : BigInt(inode.readUInt32BE(numberAt))
    const change = (to: bigint): void => {
      if (isWide) inode.writeBigUInt64BE(to, numberAt)
      else inode.writeUInt32BE(Number(to), numberAt)
    }
    const rename = (to: Uint8Array): void => {
      inode.set(to, nameAt)
    }
    found.set(name, { name, inode: number, change, rename })
    at = numberAt + numberBytes
  }
  const own = inode.readBigUInt64BE(152)
  const save = (): void => {
    seal(inode, INODE.checksum)
    xfs.write(xfs.inodeAt(own), inode)
  }
  return { found, save }
}

/** In blocks: number, length, name, type and place of each, at multiples of 8 bytes. */
function namesInBlocks(xfs: XfsFile, inode: Buffer): Names {
  const found = new Map<string, Found>()
  const blocks: { readonly at: number; readonly bytes: Buffer }[] = []
  for (const { place, start, count } of extentsOf(xfs, inode)) {
    if (place * BigInt(xfs.blockBytes) >= NAMES_END_BYTES) continue
    for (let index = 0; index < count; index++) {
      const at = xfs.blockAt(start + BigInt(index))
      const bytes = xfs.read(at, xfs.blockBytes)
      blocks.push({ at, bytes })
      addNames(bytes, found)
    }
  }
  const save = (): void => {
    for (const { at, bytes } of blocks) {
      seal(bytes, DIRECTORY_BLOCK.checksumAt)
      xfs.write(at, bytes)
    }
  }
  return { found, save }
}

function addNames(bytes: Buffer, found: Map<string, Found>): void {
  const isSingle = bytes.readUInt32BE(0) === SINGLE_MAGIC
  const end = isSingle ? bytes.length - 8 - bytes.readUInt32BE(bytes.length - 8) * 8 : bytes.length
  for (let at: number = DIRECTORY_BLOCK.headerBytes; at < end;) {
    if (bytes.readUInt16BE(at) === 0xffff) {
      at += bytes.readUInt16BE(at + 2)
      continue
    }
    const numberAt = at
    const length = bytes.readUInt8(at + 8)
    const name = bytes.toString('latin1', at + 9, at + 9 + length)
    const change = (to: bigint): void => {
      bytes.writeBigUInt64BE(to, numberAt)
    }
    const rename = (to: Uint8Array): void => {
      bytes.set(to, numberAt + 9)
    }
    if (name !== '.' && name !== '..')
      found.set(name, { name, inode: bytes.readBigUInt64BE(at), change, rename })
    at += (8 + 1 + length + 1 + 2 + 7) & ~7
  }
}
