// SPDX-License-Identifier: Apache-2.0
import {
  closeSync,
  existsSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

import { errnoOf } from './errors.ts'
import { closeElsewhere } from './run.ts'
import { processOutside } from './settings.ts'
import { writeAll } from './write-all.ts'

/**
 * What this process has begun and not finished; removed when it fails or is interrupted.
 * What a killed process left behind is found by its name and removed by the next one.
 */
const unfinished = new Set<string>()

/**
 * `<pid>-<start time>`: a pid alone may name another process by the time it is looked at.
 *
 * Undefined for one that is gone, and for one that has ended and whom its parent does not ask for: an init
 * that does not may leave it in the table for ever.
 */
function processName(pid: number | 'self' = 'self'): string | undefined {
  try {
    const status = readFileSync(`/proc/${String(pid)}/stat`, 'utf8')
    // Fields 3 and 22, counted after the command name, which may hold spaces. Source: proc(5).
    const fields = status.slice(status.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? undefined : `${status.split(' ', 1).join('')}-${fields[19] ?? ''}`
  } catch {
    return undefined
  }
}

const NAME = /^\..*\.tmp-(\d+)-(\d+)$/

/** What this process is called in the names of its temporary files. */
export function ownName(): string {
  return processOutside() ?? processName() ?? ''
}

/**
 * Remove what processes that are gone left half-written in a folder.
 *
 * In a container nothing is: the processes of others cannot be seen there, and who started it has done this.
 *
 * @param own remove what has our own name as well: what a container that is gone left
 */
export function removeStale(folder: string, own: 'keep own' | 'own too' = 'keep own'): void {
  for (const name of staleNames(folder, own)) removeOwn(join(folder, name))
}

function staleNames(folder: string, own: 'keep own' | 'own too'): string[] {
  if (!existsSync(folder) || processOutside() !== undefined) return []
  return readdirSync(folder).filter((name) => {
    const [, pid, start] = NAME.exec(name) ?? []
    if (pid === undefined || start === undefined) return false
    const process = `${pid}-${start}`
    return processName(Number(pid)) !== process || (own === 'own too' && process === ownName())
  })
}

/**
 * Remove what killed processes left of one path. It may be in a folder that others write to, such as /tmp:
 * what is not ours could become a link while it is removed, and stays.
 */
function removeLeftOf(path: string): void {
  const folder = dirname(path)
  for (const name of staleNames(folder, 'keep own')) {
    const left = join(folder, name)
    const isOurs = lstatSync(left, { throwIfNoEntry: false })?.uid === process.geteuid?.()
    if (isOurs && name.startsWith(`.${basename(path)}.`)) removeOwn(left)
  }
}

/** A step without the owners of a rootfs leaves what it may not remove to the next one that has them. */
function removeOwn(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true })
  } catch (error) {
    if (!['EACCES', 'EPERM'].includes(errnoOf(error) ?? '')) throw error
  }
}

/**
 * Make `finalPath` in one move: `make` writes beside it, and only a complete result gets the name.
 *
 * A folder that has the name already is moved aside first and removed after. What killed processes left of
 * this very path is removed: it may be in a folder of the user's, where nobody else looks for it.
 */
export async function withTemporary<Result>(
  finalPath: string,
  make: (temporaryPath: string) => Promise<Result>,
): Promise<Result> {
  await mkdir(dirname(finalPath), { recursive: true })
  removeLeftOf(finalPath)
  const temporary = temporaryFor(finalPath)
  try {
    const result = await make(temporary)
    publish(temporary, finalPath)
    return result
  } finally {
    discard(temporary)
  }
}

/**
 * Change the folder at `path` under a temporary name, so that a killed process leaves no half-changed
 * folder of that name, but none.
 *
 * @param recover makes the folder what it was after `change` failed; then it gets its name back
 */
export async function changeFolder(
  path: string,
  change: (temporaryPath: string) => Promise<void>,
  recover: (temporaryPath: string) => Promise<void>,
): Promise<void> {
  const temporary = temporaryFor(path)
  renameSync(path, temporary)
  try {
    try {
      await change(temporary)
    } catch (error) {
      await recover(temporary)
      renameSync(temporary, path)
      throw error
    }
    renameSync(temporary, path)
  } finally {
    discard(temporary)
  }
}

/** A new name beside `path`, removed when this process ends before `discard`. */
export function temporaryFor(path: string): string {
  const temporary = join(dirname(path), `.${basename(path)}.tmp-${ownName()}`)
  rmSync(temporary, { recursive: true, force: true })
  unfinished.add(temporary)
  return temporary
}

/** Remove a temporary file or folder and forget it. */
export function discard(temporary: string): void {
  rmSync(temporary, { recursive: true, force: true })
  unfinished.delete(temporary)
}

function publish(temporary: string, finalPath: string): void {
  if (!existsSync(finalPath) || !isFolder(finalPath)) {
    replaceFile(temporary, finalPath)
    return
  }
  const old = join(dirname(finalPath), `.${basename(finalPath)}.old.tmp-${ownName()}`)
  unfinished.add(old)
  renameSync(finalPath, old)
  renameSync(temporary, finalPath)
  discard(old)
}

/** Files from this size on are worth a process that gives them back. Unit: bytes. */
const LARGE_BYTES = 16 * 1024 * 1024

function replaceFile(temporary: string, finalPath: string): void {
  const old = lstatSync(finalPath, { throwIfNoEntry: false })
  if (old?.isFile() !== true || old.size < LARGE_BYTES) {
    renameSync(temporary, finalPath)
    return
  }
  const descriptor = openSync(finalPath, 'r')
  try {
    renameSync(temporary, finalPath)
    closeElsewhere(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

function isFolder(path: string): boolean {
  try {
    readdirSync(path)
    return true
  } catch {
    return false
  }
}

/** Write a small file in one move. */
export function writeWhole(finalPath: string, content: string | Uint8Array): void {
  const temporary = temporaryFor(finalPath)
  try {
    const descriptor = openSync(temporary, 'w', 0o644)
    try {
      writeAll(descriptor, Buffer.from(content))
    } finally {
      closeSync(descriptor)
    }
    renameSync(temporary, finalPath)
  } finally {
    discard(temporary)
  }
}

let cleansUp = false

/** On Ctrl-C and on being told to end: remove what is unfinished, then end by the same signal. */
export function cleanUpOnSignals(): void {
  if (cleansUp) return
  cleansUp = true
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      for (const path of unfinished) rmSync(path, { recursive: true, force: true })
      process.kill(process.pid, signal)
    })
  }
}
