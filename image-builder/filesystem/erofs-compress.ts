// SPDX-License-Identifier: Apache-2.0
import { closeSync, openSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'

import { BuildError } from '../../scripts/errors.ts'
import type { TreeEntry } from '../../scripts/tree.ts'
import { BUNDLE_ROOT } from '../../scripts/paths.ts'
import { writeAll } from '../../scripts/write-all.ts'
import { BLOCK_BYTES, indexBytes } from './erofs-extents.ts'
import type { Compressed, Extent } from './erofs-extents.ts'
import type { Lz4Effort } from './lz4.ts'

/** Files are read in parts of this size, so that memory stays small. A multiple of the block. Unit: bytes. */
const PART_BYTES = 8 * 1024 * 1024

/** Small files travel to a thread together. Unit: bytes. */
const TASK_BYTES = 1024 * 1024

/** More threads than this would wait for the disk. */
const MAX_THREADS = 16

/** A part of a file, for a thread. */
export interface CompressPart {
  readonly source: string | Uint8Array
  readonly offsetBytes: number
  readonly lengthBytes: number
  readonly isLast: boolean
}

/** What a thread is asked. */
export interface CompressTask {
  readonly number: number
  readonly parts: readonly CompressPart[]
  readonly effort: Lz4Effort
}

/** What it answers; undefined for a part that is not as it was listed. */
export interface CompressAnswer {
  readonly number: number
  readonly results: readonly (Compressed | undefined)[]
}

/** A file as it is stored when that is smaller. */
export interface CompressedFile {
  readonly extents: readonly Extent[]
  /** Its first block, counted from the first of all. */
  readonly firstBlock: number
}

/** The files that became smaller, by path, and their blocks one after the other in a file. */
export interface CompressedFiles {
  readonly byPath: ReadonlyMap<string, CompressedFile>
  readonly blockCount: number
}

interface Slot {
  readonly entry: TreeEntry
  readonly part: CompressPart
}

/**
 * Compress files on all processors, and write the blocks of those that become smaller to `blocksFile`.
 *
 * What is written does not depend on how many processors there are.
 *
 * @throws BuildError E_INPUT when a file is not as it was listed
 */
export async function compressFiles(
  entries: readonly TreeEntry[],
  effort: Lz4Effort,
  blocksFile: string,
): Promise<CompressedFiles> {
  const slots = entries.flatMap(partsOf)
  const tasks = groupSlots(slots)
  const output = openSync(blocksFile, 'wx', 0o600)
  const byPath = new Map<string, CompressedFile>()
  let blockCount = 0
  let waiting: Compressed[] = []
  const take = ({ entry, part }: Slot, result: Compressed | undefined): void => {
    if (result === undefined) throw changedError(entry)
    waiting.push(result)
    if (!part.isLast) return
    const extents = waiting.flatMap((compressed) => compressed.extents)
    const storedBytes = extents.length * BLOCK_BYTES + indexBytes(entry.sizeBytes)
    if (storedBytes < entry.sizeBytes) {
      for (const { blocks } of waiting) writeAll(output, blocks)
      byPath.set(entry.path, { extents, firstBlock: blockCount })
      blockCount += extents.length
    }
    waiting = []
  }
  try {
    await runTasks(tasks, effort, (task, results) => {
      task.forEach((slot, index) => {
        take(slot, results[index])
      })
    })
  } finally {
    closeSync(output)
  }
  return { byPath, blockCount }
}

function partsOf(entry: TreeEntry): Slot[] {
  const { source, sizeBytes } = entry
  if (source === undefined) return []
  const count = Math.ceil(sizeBytes / PART_BYTES)
  return Array.from({ length: count }, (_, number) => {
    const offsetBytes = number * PART_BYTES
    const lengthBytes = Math.min(PART_BYTES, sizeBytes - offsetBytes)
    return { entry, part: { source, offsetBytes, lengthBytes, isLast: number === count - 1 } }
  })
}

function groupSlots(slots: readonly Slot[]): Slot[][] {
  const tasks: Slot[][] = []
  let room = 0
  for (const slot of slots) {
    if (room < slot.part.lengthBytes) {
      tasks.push([])
      room = TASK_BYTES
    }
    tasks.at(-1)?.push(slot)
    room -= slot.part.lengthBytes
  }
  return tasks
}

/** Hand tasks to threads, and their results on in the order of the tasks. */
async function runTasks(
  tasks: readonly (readonly Slot[])[],
  effort: Lz4Effort,
  done: (task: readonly Slot[], results: CompressAnswer['results']) => void,
): Promise<void> {
  const threads = Math.min(availableParallelism(), MAX_THREADS, tasks.length)
  const workers = Array.from(
    { length: threads },
    () => new Worker(join(BUNDLE_ROOT, 'image-builder/filesystem/erofs-worker.js')),
  )
  try {
    await new Promise<void>((resolve, reject) => {
      const early = new Map<number, CompressAnswer['results']>()
      let asked = 0
      let finished = 0
      if (tasks.length === 0) resolve()
      const ask = (worker: Worker): void => {
        const task = tasks[asked]
        // What is ready too early waits in memory, so nobody may run far ahead.
        if (task === undefined || asked - finished > 4 * threads) return
        const message: CompressTask = { number: asked, parts: task.map(({ part }) => part), effort }
        asked += 1
        worker.postMessage(message)
      }
      const idle = new Set<Worker>()
      for (const worker of workers) {
        worker.on('error', reject)
        worker.on('message', ({ number, results }: CompressAnswer) => {
          try {
            early.set(number, results)
            for (let next = early.get(finished); next !== undefined; next = early.get(finished)) {
              early.delete(finished)
              done(tasks[finished] ?? [], next)
              finished += 1
            }
          } catch (error) {
            reject(error instanceof Error ? error : new Error(String(error)))
            return
          }
          if (finished === tasks.length) {
            resolve()
            return
          }
          idle.add(worker)
          for (const one of [...idle]) {
            const before = asked
            ask(one)
            if (asked > before) idle.delete(one)
          }
        })
        ask(worker)
      }
    })
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()))
  }
}

/** The error for a file that was written to while it was read. */
export function changedError({ path, source }: TreeEntry): BuildError {
  return new BuildError(
    'E_INPUT',
    `${typeof source === 'string' ? source : path}: changed while it was being packed`,
    {
      hint: 'stop what writes to the tree, and build again',
    },
  )
}
