// SPDX-License-Identifier: Apache-2.0
import { closeSync, mkdirSync, openSync, readSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { bytes } from '../scripts/log.ts'
import { capture, findTool } from '../scripts/run.ts'
import { readTree } from '../scripts/tree.ts'
import type { TreeEntry } from '../scripts/tree.ts'
import { withXattrs } from '../scripts/xattrs.ts'
import { explainTrees, firstDifference } from './explain.ts'
import type { Difference, Surroundings } from './explain.ts'
import { listContent } from './listing.ts'
import { tableOf } from './outputs.ts'
import type { Output } from './outputs.ts'
import { readArtifact } from './read-artifact.ts'
import { contentOf } from './tree-view.ts'

/** Compare the trees of two rootfs folders. */
export async function compareFolders(
  first: string,
  second: string,
  idShift: number,
  around: Surroundings,
): Promise<Difference[]> {
  const [a, b] = await Promise.all(
    [first, second].map(async (folder) => withXattrs(folder, readTree(folder))),
  )
  return compareEntries(a ?? [], asSeenInside(b ?? [], idShift), around)
}

/** Compare what two images or initrds hold, and then the bytes around it. */
export async function compareArtifacts(
  first: Output,
  second: Output,
  scratchDir: string,
  around: Surroundings,
): Promise<Difference[]> {
  const trees: TreeEntry[][] = []
  for (const [index, output] of [first, second].entries()) {
    const folder = join(scratchDir, String(index))
    mkdirSync(folder)
    trees.push((await readArtifact(output, folder)) ?? [])
  }
  const differences = compareEntries(trees[0] ?? [], trees[1] ?? [], around)
  if (differences.length > 0) return differences
  return [await explainBytes(first, second, scratchDir)]
}

function compareEntries(
  first: readonly TreeEntry[],
  second: readonly TreeEntry[],
  around: Surroundings,
): Difference[] {
  const a = new Map(first.map((entry) => [entry.path, entry]))
  const b = new Map(second.map((entry) => [entry.path, entry]))
  return explainTrees(listContent(first), listContent(second), around, (path) => [
    contentOf(a.get(path)),
    contentOf(b.get(path)),
  ])
}

const CAPABILITY = 'security.capability'
/** Revision 3 of file capabilities, which names the root of a namespace in its last four bytes. Source: linux/capability.h */
const REVISION_3 = 3

/** Entries as the root of the user namespace sees them that they were made in. */
export function asSeenInside(entries: readonly TreeEntry[], idShift: number): TreeEntry[] {
  if (idShift === 0) return [...entries]
  return entries.map((entry) => ({
    ...entry,
    uid: entry.uid - idShift,
    gid: entry.gid - idShift,
    ...(entry.xattrs === undefined ? {} : { xattrs: new Map([...entry.xattrs].map(ownCapability)) }),
  }))
}

function ownCapability([name, value]: readonly [string, Uint8Array]): [string, Uint8Array] {
  if (name !== CAPABILITY || value[3] !== REVISION_3) return [name, value]
  const plain = Buffer.from(value.subarray(0, value.length - 4))
  plain[3] = 2
  return [name, plain]
}

const CHUNK_BYTES = 4 * 1024 * 1024

/** Offset of the first byte that differs between two files, or undefined. */
export function firstDifferenceOfFiles(first: string, second: string): number | undefined {
  const descriptors = [openSync(first, 'r'), openSync(second, 'r')] as const
  const [a, b] = [Buffer.alloc(CHUNK_BYTES), Buffer.alloc(CHUNK_BYTES)]
  try {
    for (let at = 0; ; at += CHUNK_BYTES) {
      const one = a.subarray(0, readSync(descriptors[0], a, 0, CHUNK_BYTES, at))
      const two = b.subarray(0, readSync(descriptors[1], b, 0, CHUNK_BYTES, at))
      if (!one.equals(two)) return at + firstDifference(one, two)
      if (one.length === 0) return undefined
    }
  } finally {
    descriptors.forEach(closeSync)
  }
}

/** Files and their metadata are equal, and yet the bytes differ: tell where. */
async function explainBytes(first: Output, second: Output, scratchDir: string): Promise<Difference> {
  const at = firstDifferenceOfFiles(first.path, second.path) ?? 0
  const size = (path: string): string => bytes(statSync(path).size)
  const lengths = [size(first.path), size(second.path)] as const
  const place = await placeOf(first, at, scratchDir)
  return {
    path: '',
    field: `bytes at offset ${String(at)}`,
    first: lengths[0],
    second: lengths[1],
    cause:
      lengths[0] === lengths[1]
        ? `the same files with the same metadata: the difference is in ${place}`
        : 'the same files in another size: free space, alignment, or the compressor and its level',
  }
}

async function placeOf({ manifest }: Output, at: number, scratchDir: string): Promise<string> {
  if (manifest.kind === 'initrd') return 'the compressed stream: another version or level of the compressor'
  const filesystem = tableOf(manifest.result['filesystem'])
  const [offset, size] = [Number(filesystem['offsetBytes']), Number(filesystem['sizeBytes'])]
  if (at < offset) return 'the partition tables, the disk signature or the DAX header before the filesystem'
  if (at >= offset + size) return 'what follows the filesystem: the hash tree'
  const blockBytes = Number(tableOf(manifest.inputs['settings'])['BLOCK_SIZE'] ?? 4096)
  const block = Math.floor((at - offset) / blockBytes)
  const image = join(scratchDir, '0/filesystem')
  if (findTool('debugfs') === undefined) return `block ${String(block)} of the filesystem`
  const said = await capture(['debugfs', '-R', `icheck ${String(block)}`, image], { acceptFailure: true })
  const inode = /^\d+\s+(\d+)/m.exec(said)?.[1]
  if (inode === undefined)
    return `block ${String(block)} of the filesystem, which no file has: its own metadata (superblock, inodes, journal)`
  const named = await capture(['debugfs', '-R', `ncheck ${inode}`, image], { acceptFailure: true })
  return `block ${String(block)} of the filesystem, of ${/^\d+\s+(\S.*)$/m.exec(named)?.[1] ?? `inode ${inode}`}`
}
