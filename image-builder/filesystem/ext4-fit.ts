// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../../scripts/errors.ts'
import type { TreeEntry } from '../../scripts/tree.ts'
import { ROOT_RECORDS, openSpace } from './ext4-extents.ts'
import type { Allocation, Demand, Space } from './ext4-extents.ts'
import {
  FIRST_FREE_INODE,
  JOURNAL_SIZES,
  availableBlocks,
  dataBlocks,
  geometryOf,
  groupLength,
  metadataBlocks,
} from './ext4-geometry.ts'
import type { BlockSizeBytes, Geometry, GeometryRequest } from './ext4-geometry.ts'
import { listNodes } from './ext4-nodes.ts'
import type { TreeNode } from './ext4-nodes.ts'

/** Blocks only root may use, as osbuilder set them with `tune2fs -m 3`. Unit: percent. */
export const DEFAULT_RESERVED_PERCENT = 3

/** Where everything lies in a filesystem. */
export interface Layout {
  readonly geometry: Geometry
  readonly space: Space
  readonly journal: Allocation
  /** One per node, in the order of the nodes. */
  readonly allocations: readonly Allocation[]
  /** Negative when the tree does not fit. */
  readonly freeBlocks: number
}

/** Highest inode in use; every lower one is in use, or reserved. */
export function lastInode(nodes: readonly TreeNode[]): number {
  const rootAndLostFound = 2
  return FIRST_FREE_INODE + nodes.length - rootAndLostFound
}

/** Lay the journal and then every demand one after the other, or undefined when no geometry holds the inodes. */
export function layOut(demands: readonly Demand[], request: GeometryRequest): Layout | undefined {
  const geometry = geometryOf(request)
  if (geometry === undefined) return undefined
  const space = openSpace(geometry)
  // First, so that it is in one piece whenever a group can hold it.
  const journal = space.allocate({ dataBlocks: geometry.journalBlocks, xattrBlocks: 0 })
  const allocations = demands.map((demand) => space.allocate(demand))
  return { geometry, space, journal, allocations, freeBlocks: dataBlocks(geometry) - space.takenBlocks() }
}

/**
 * Lay out a tree that must fit.
 *
 * @throws BuildError E_CONFIG naming what is needed and what there is
 */
export function layOutOrThrow(demands: readonly Demand[], request: GeometryRequest): Layout {
  const { blockCount, blockSizeBytes, usedInodes } = request
  const subject = `filesystem of ${String(blockCount * blockSizeBytes)} bytes`
  const layout = layOut(demands, request)
  if (layout === undefined) {
    throw new BuildError('E_CONFIG', `${subject}: cannot be made`, {
      because: [
        `needed: ${String(usedInodes)} inodes, ${String(JOURNAL_SIZES[0].fromBlocks)} to ${String(2 ** 32 - 1)} blocks`,
        `available: ${String(request.inodeCount ?? 'any number of')} inodes, ${String(blockCount)} blocks of ${String(blockSizeBytes)} bytes`,
      ],
      hint: 'choose another size or more inodes',
    })
  }
  if (layout.freeBlocks < 0) {
    const neededBytes = layout.space.takenBlocks() * blockSizeBytes
    throw new BuildError('E_CONFIG', `${subject}: too small for the tree`, {
      because: [
        `needed: ${String(neededBytes)} bytes and ${String(usedInodes)} inodes`,
        `available: ${String(dataBlocks(layout.geometry) * blockSizeBytes)} bytes after the metadata`,
      ],
      hint: `make it at least ${String(-layout.freeBlocks * blockSizeBytes)} bytes larger`,
    })
  }
  return layout
}

/** What the smallest filesystem depends on beside the tree. */
export interface MinimumRequest {
  readonly blockSizeBytes: BlockSizeBytes
  /** Space that ordinary users of the guest must find. */
  readonly freeBytes: number
  readonly reservedPercent?: number
  readonly inodeCount?: number
  /** Clock of what the filesystem adds; no size depends on it. */
  readonly epochSeconds?: number
}

/**
 * Size of the smallest filesystem that holds the tree and leaves `freeBytes` available.
 *
 * One block less does not do. (A still smaller size may fit where the metadata takes a step; the
 * difference is less than one group's metadata.) Unit: bytes, a multiple of the block size.
 *
 * @throws BuildError E_INPUT when ext4 cannot store the tree, E_CONFIG when no size is large enough
 */
export function minimumExt4Bytes(entries: readonly TreeEntry[], request: MinimumRequest): number {
  const { blockSizeBytes, inodeCount, reservedPercent = DEFAULT_RESERVED_PERCENT, epochSeconds = 0 } = request
  const nodes = listNodes(entries, { blockSizeBytes, epochSeconds })
  const demands = nodes.map(({ demand }) => demand)
  const wantedBlocks = Math.ceil(request.freeBytes / blockSizeBytes)
  const demandedBlocks = demands.reduce((sum, demand) => sum + demand.dataBlocks + demand.xattrBlocks, 0)
  const longestBlocks = demands.reduce((most, demand) => Math.max(most, demand.dataBlocks), 0)
  const fits = (blockCount: number): boolean => {
    const asked = { blockCount, blockSizeBytes, usedInodes: lastInode(nodes), inodeCount }
    const geometry = geometryOf(asked)
    if (geometry === undefined) return false
    // A dozen lengths are tried: nothing is laid out where counting tells the same.
    const freeBlocks =
      Math.max(longestBlocks, geometry.journalBlocks) <= longestWithoutTree(geometry)
        ? dataBlocks(geometry) - geometry.journalBlocks - demandedBlocks
        : (layOut(demands, asked)?.freeBlocks ?? -1)
    return freeBlocks >= 0 && availableBlocks(geometry, freeBlocks, reservedPercent) >= wantedBlocks
  }
  const blockCount = smallestThatFits(fits, demandedBlocks + wantedBlocks)
  if (blockCount === undefined) {
    throw new BuildError('E_CONFIG', 'ext4: no size holds the tree and its inodes', {
      hint: 'choose larger blocks or fewer inodes',
    })
  }
  return blockCount * blockSizeBytes
}

/** Blocks that always fit into the extents of an inode itself, wherever they begin. */
function longestWithoutTree(geometry: Geometry): number {
  let shortest = Infinity
  // The last group may be short, but nothing goes on behind it.
  for (let group = 0; group < geometry.groupCount - 1; group++) {
    shortest = Math.min(shortest, groupLength(geometry, group) - metadataBlocks(geometry, group))
  }
  // They may begin and end within a group.
  return shortest * (ROOT_RECORDS - 2)
}

/** Between the content alone and the whole filesystem lie at least a journal and some tables. */
const FIRST_STEP_BLOCKS = 2048

/** Lengths over which the journal is the same, so that more blocks give more room. */
const BRACKETS = JOURNAL_SIZES.map(({ fromBlocks }, index) => ({
  first: fromBlocks,
  last: (JOURNAL_SIZES[index + 1]?.fromBlocks ?? 2 ** 32) - 1,
}))

function smallestThatFits(fits: (blockCount: number) => boolean, lowerBound: number): number | undefined {
  for (const { first, last } of BRACKETS) {
    if (last < lowerBound) continue
    if (first >= lowerBound && fits(first)) return first
    const found = bisect(fits, { tooSmall: Math.max(first, lowerBound - 1), last })
    if (found !== undefined) return found
  }
  return undefined
}

function bisect(
  fits: (blockCount: number) => boolean,
  range: { readonly tooSmall: number; readonly last: number },
): number | undefined {
  let { tooSmall } = range
  // Wider and wider steps from below: the answer is near, the end of the bracket may be terabytes away.
  let stepBlocks = FIRST_STEP_BLOCKS
  let enough = Math.min(range.last, tooSmall + stepBlocks)
  while (!fits(enough)) {
    if (enough === range.last) return undefined
    tooSmall = enough
    stepBlocks *= 2
    enough = Math.min(range.last, tooSmall + stepBlocks)
  }
  while (enough - tooSmall > 1) {
    const middle = Math.floor((tooSmall + enough) / 2)
    if (fits(middle)) enough = middle
    else tooSmall = middle
  }
  return enough
}
