// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../../scripts/errors.ts'
import type { TreeEntry } from '../../scripts/tree.ts'
import { crc32c } from './crc32c.ts'
import { addJournal, addNode } from './ext4-content.ts'
import type { Collector, Piece } from './ext4-content.ts'
import { DEFAULT_RESERVED_PERCENT, lastInode, layOutOrThrow } from './ext4-fit.ts'
import type { Layout } from './ext4-fit.ts'
import {
  INODE_SIZE_BYTES,
  availableBlocks,
  groupLength,
  groupStart,
  hasSuperblock,
  reservedBlocks,
} from './ext4-geometry.ts'
import type { BlockSizeBytes, Geometry } from './ext4-geometry.ts'
import { listNodes } from './ext4-nodes.ts'
import type { TreeNode } from './ext4-nodes.ts'
import {
  CHECKSUM_START,
  SUPERBLOCK_OFFSET_BYTES,
  blockBitmapBlock,
  encodeDescriptors,
  encodeJournalSuperblock,
  encodeSuperblock,
} from './ext4-superblock.ts'
import type { GroupUse } from './ext4-superblock.ts'

export { minimumExt4Bytes } from './ext4-fit.ts'
export type { FilePiece, Piece } from './ext4-content.ts'

/** Longest `s_volume_name`. Unit: bytes. Source: ext4/super.rst */
const MAX_LABEL_BYTES = 16

/** Settings of a filesystem. */
export interface Ext4Request {
  /** Size of the whole filesystem, a multiple of the block size. */
  readonly sizeBytes: number
  readonly blockSizeBytes: BlockSizeBytes
  readonly uuid: string
  /** UUID that the hashes of names in large directories start from. */
  readonly hashSeed: string
  /** Every time in the filesystem; files keep an older time of change. */
  readonly epochSeconds: number
  readonly label?: string
  /** Blocks that only root may use. Unit: percent; default 3. */
  readonly reservedPercent?: number
  /** Inodes in all; default: one per 16 KiB, more when the tree needs them. */
  readonly inodeCount?: number
}

/** A filesystem to the last byte, except the content of host files. */
export interface Ext4Plan {
  readonly sizeBytes: number
  readonly blockSizeBytes: BlockSizeBytes
  readonly inodeCount: number
  readonly freeInodes: number
  readonly freeBytes: number
  /** Free space without what is reserved for root and the kernel: "available" of the guest's `df`. */
  readonly availableBytes: number
  /** In order of place, none over another. What they leave out is zero. */
  readonly pieces: readonly Piece[]
}

/**
 * Plan an ext4 filesystem with these entries.
 *
 * @throws BuildError E_INPUT when ext4 cannot store an entry, E_CONFIG when the settings are wrong or
 *   the filesystem is too small
 */
export function planExt4(entries: readonly TreeEntry[], request: Ext4Request): Ext4Plan {
  const { blockSizeBytes, sizeBytes, epochSeconds, reservedPercent = DEFAULT_RESERVED_PERCENT } = request
  const names = identityOf(request)
  checkSizes(request, reservedPercent)
  const nodes = listNodes(entries, { blockSizeBytes, epochSeconds })
  const usedInodes = lastInode(nodes)
  const demands = nodes.map(({ demand }) => demand)
  const blockCount = sizeBytes / blockSizeBytes
  const layout = layOutOrThrow(demands, {
    blockCount,
    blockSizeBytes,
    usedInodes,
    inodeCount: request.inodeCount,
  })
  const { geometry, freeBlocks } = layout
  const inodeCount = geometry.inodesPerGroup * geometry.groupCount
  const freeInodes = inodeCount - usedInodes

  const filesystemSeed = crc32c(CHECKSUM_START, names.uuid)
  const inodeTables = emptyInodeTables(geometry, usedInodes)
  const collector: Collector = { geometry, filesystemSeed, epochSeconds, pieces: [], inodeTables }
  const journalRoot = addJournal(collector, layout.journal, encodeJournalSuperblock(geometry, names.uuid))
  nodes.forEach((node, index) => {
    const allocation = layout.allocations[index]
    if (allocation !== undefined) addNode(collector, node, allocation)
  })
  const groups = groupUses(layout, nodes, usedInodes)
  addGroups(collector, groups)
  addSuperblocks(collector, encodeDescriptors(geometry, groups, filesystemSeed), (group) =>
    encodeSuperblock(
      {
        ...names,
        geometry,
        epochSeconds,
        reservedBlocks: reservedBlocks(geometry, reservedPercent),
        freeBlocks,
        freeInodes,
        journalRoot,
      },
      group,
    ),
  )
  return {
    sizeBytes,
    blockSizeBytes,
    inodeCount,
    freeInodes,
    freeBytes: freeBlocks * blockSizeBytes,
    availableBytes: availableBlocks(geometry, freeBlocks, reservedPercent) * blockSizeBytes,
    pieces: collector.pieces.sort((a, b) => a.offsetBytes - b.offsetBytes),
  }
}

function identityOf({
  uuid,
  hashSeed,
  label = '',
}: Ext4Request): Record<'uuid' | 'hashSeed' | 'label', Buffer> {
  if (Buffer.byteLength(label) > MAX_LABEL_BYTES) {
    throw new BuildError('E_CONFIG', `label=${label}: expected at most ${String(MAX_LABEL_BYTES)} bytes`)
  }
  return {
    uuid: uuidBytes('uuid', uuid),
    hashSeed: uuidBytes('hashSeed', hashSeed),
    label: Buffer.from(label),
  }
}

function uuidBytes(setting: string, uuid: string): Buffer {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(uuid)) {
    throw new BuildError('E_CONFIG', `${setting}=${uuid}: expected a UUID`, { hint: 'uuidgen' })
  }
  return Buffer.from(uuid.replaceAll('-', ''), 'hex')
}

function checkSizes({ blockSizeBytes, sizeBytes, epochSeconds }: Ext4Request, reservedPercent: number): void {
  const refuse = (setting: string, value: number, expected: string): never => {
    throw new BuildError('E_CONFIG', `${setting}=${String(value)}: expected ${expected}`)
  }
  if (![1024, 2048, 4096].includes(blockSizeBytes))
    refuse('blockSizeBytes', blockSizeBytes, '1024, 2048 or 4096')
  if (!Number.isInteger(sizeBytes / blockSizeBytes))
    refuse('sizeBytes', sizeBytes, 'a multiple of the block size')
  // Five bytes hold a time in the superblock, but 34 bits the one in an inode.
  if (!Number.isInteger(epochSeconds) || epochSeconds < 0 || epochSeconds >= 2 ** 34 - 2 ** 31) {
    refuse('epochSeconds', epochSeconds, 'a whole number of seconds between the years 1970 and 2446')
  }
  // Above a half, the guest's file system check takes the superblock for damaged.
  if (!(reservedPercent >= 0 && reservedPercent <= 50)) refuse('reservedPercent', reservedPercent, '0 to 50')
}

function usedInodesIn({ inodesPerGroup }: Geometry, group: number, usedInodes: number): number {
  return Math.min(Math.max(usedInodes - group * inodesPerGroup, 0), inodesPerGroup)
}

function emptyInodeTables(geometry: Geometry, usedInodes: number): Uint8Array[] {
  return Array.from(
    { length: geometry.groupCount },
    (_, group) => new Uint8Array(usedInodesIn(geometry, group, usedInodes) * INODE_SIZE_BYTES),
  )
}

function groupUses({ geometry, space }: Layout, nodes: readonly TreeNode[], usedInodes: number): GroupUse[] {
  const directories = new Map<number, number>()
  for (const { entry, inode } of nodes) {
    if (entry.type !== 'directory') continue
    const group = Math.floor((inode - 1) / geometry.inodesPerGroup)
    directories.set(group, (directories.get(group) ?? 0) + 1)
  }
  return Array.from({ length: geometry.groupCount }, (_, group) => {
    const length = groupLength(geometry, group)
    const usedBlocks = space.usedInGroup(group)
    const used = usedInodesIn(geometry, group, usedInodes)
    return {
      freeBlocks: length - usedBlocks,
      freeInodes: geometry.inodesPerGroup - used,
      directories: directories.get(group) ?? 0,
      blockBitmap: bitmapOf(geometry, usedBlocks, length),
      inodeBitmap: bitmapOf(geometry, used, geometry.inodesPerGroup),
    }
  })
}

/** A bitmap block with the first `used` bits set, and those that stand for nothing. */
function bitmapOf({ blockSizeBytes }: Geometry, used: number, meaningful: number): Uint8Array {
  const bitmap = new Uint8Array(blockSizeBytes)
  setBits(bitmap, 0, used)
  setBits(bitmap, meaningful, blockSizeBytes * 8)
  return bitmap
}

function setBits(bitmap: Uint8Array, from: number, to: number): void {
  let bit = from
  const setBit = (): void => {
    bitmap[bit >>> 3] = (bitmap[bit >>> 3] ?? 0) | (1 << (bit & 7))
    bit++
  }
  while (bit < to && bit % 8 !== 0) setBit()
  bitmap.fill(0xff, bit >>> 3, to >>> 3)
  bit = Math.max(bit, to - (to % 8))
  while (bit < to) setBit()
}

function addGroups({ geometry, pieces, inodeTables }: Collector, groups: readonly GroupUse[]): void {
  const { blockSizeBytes } = geometry
  groups.forEach(({ blockBitmap, inodeBitmap }, group) => {
    const offsetBytes = blockBitmapBlock(geometry, group) * blockSizeBytes
    pieces.push({ offsetBytes, bytes: blockBitmap })
    pieces.push({ offsetBytes: offsetBytes + blockSizeBytes, bytes: inodeBitmap })
    const table = inodeTables[group]
    if (table !== undefined) pieces.push({ offsetBytes: offsetBytes + 2 * blockSizeBytes, bytes: table })
  })
}

function addSuperblocks(
  { geometry, pieces }: Collector,
  descriptors: Uint8Array,
  superblockOf: (group: number) => Uint8Array,
): void {
  const { blockSizeBytes, groupCount } = geometry
  for (let group = 0; group < groupCount; group++) {
    if (!hasSuperblock(group)) continue
    const startBytes = groupStart(geometry, group) * blockSizeBytes
    const offsetBytes = group === 0 ? SUPERBLOCK_OFFSET_BYTES : startBytes
    pieces.push({ offsetBytes, bytes: superblockOf(group) })
    pieces.push({ offsetBytes: startBytes + blockSizeBytes, bytes: descriptors })
  }
}
