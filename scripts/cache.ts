// SPDX-License-Identifier: Apache-2.0
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'

import { sha256File } from './digest.ts'
import { errnoOf } from './errors.ts'
import { hashBehind } from './hash-behind.ts'
import { warn } from './log.ts'
import { discard, temporaryFor } from './temporary.ts'
import { readTree } from './tree.ts'

/**
 * What the cache keeps, in the order a build passes it. An entry is a folder `<stage>/<key>`; its key
 * is the fingerprint of all that decides what is in it, so the same key always means the same content.
 * (What mirrors said last, which changes, is in `index/`, and no entry; what dnf keeps of a mirror is one,
 * whose files dnf verifies.)
 */
export const STAGES = ['mirror', 'package', 'base', 'provisioned', 'agent', 'boot', 'kernel'] as const

export type Stage = (typeof STAGES)[number]

/** Name of a base tree's archive in its entry; members begin with `./`. */
export const TREE_TAR = 'tree.tar'

/** Digests of an entry's files, made when it was complete. Its time is that of the entry's last use. */
const SEAL = 'seal.json'

interface Sealed {
  readonly sha256: string
  /** What the kernel tells of the file; while it is the same, nobody wrote the file. */
  readonly stamp: string
}

type Seal = Readonly<Record<string, Sealed>>

function entryFolder(cacheDir: string, stage: Stage, key: string): string {
  return join(cacheDir, stage, key)
}

/**
 * Folder of an entry, when it is there and every file is what it was; it counts as used now.
 *
 * A file that was touched since is read again. An entry that is not what it was is dropped, with a warning.
 */
export function findEntry(cacheDir: string, stage: Stage, key: string): string | undefined {
  const folder = entryFolder(cacheDir, stage, key)
  const sealFile = join(folder, SEAL)
  if (!existsSync(sealFile)) return undefined
  const broken = brokenFile(folder, sealFile)
  if (broken === undefined) {
    touch(sealFile)
    return folder
  }
  warn(`${join(folder, broken)} is not what was put into the cache: dropped, and made again`)
  rmSync(folder, { recursive: true, force: true })
  return undefined
}

/** The first file of an entry that is not as it was sealed; renews stamps of those that are. */
function brokenFile(folder: string, sealFile: string): string | undefined {
  const text = readFileSync(sealFile, 'utf8')
  // A full disk may have left it empty.
  const seal = (text === '' ? { [SEAL]: { sha256: '', stamp: '' } } : JSON.parse(text)) as Seal
  const renewed: Record<string, Sealed> = {}
  for (const [name, sealed] of Object.entries(seal)) {
    const file = join(folder, name)
    const stamp = stampOf(file)
    if (stamp === undefined || (stamp !== sealed.stamp && sha256File(file) !== sealed.sha256)) return name
    if (stamp !== sealed.stamp) renewed[name] = { ...sealed, stamp }
  }
  if (Object.keys(renewed).length > 0)
    mayFail(() => writeFileSync(sealFile, JSON.stringify({ ...seal, ...renewed })))
  return undefined
}

function stampOf(file: string): string | undefined {
  const status = lstatSync(file, { bigint: true, throwIfNoEntry: false })
  if (status?.isFile() !== true) return undefined
  return [status.ino, status.size, status.mtimeNs, status.ctimeNs].join(':')
}

/** Mark an entry as used. */
function touch(sealFile: string): void {
  mayFail(() => utimesSync(sealFile, new Date(), new Date()))
}

/** Another user's cache may be read and not written. */
function mayFail(change: () => void): void {
  try {
    change()
  } catch (error) {
    if (!['EACCES', 'EPERM', 'EROFS'].includes(errnoOf(error) ?? '')) throw error
  }
}

/** sha256 of files by their paths in an entry, in hex. */
type Digests = Readonly<Record<string, string>>

/**
 * Make an entry: `make` fills a folder, which gets its name when it is complete.
 *
 * When another build was faster its entry stays, for somebody may be reading it. Returns the folder.
 *
 * @param make may tell digests that it has just verified: those files are not read again
 */
export async function makeEntry(
  cacheDir: string,
  stage: Stage,
  key: string,
  make: (folder: string) => Promise<Digests | void>,
): Promise<string> {
  const folder = entryFolder(cacheDir, stage, key)
  mkdirSync(join(cacheDir, stage), { recursive: true })
  const temporary = temporaryFor(folder)
  try {
    mkdirSync(temporary)
    const known = (await make(temporary)) ?? {}
    const seal: Record<string, Sealed> = {}
    for (const { path, type } of readTree(temporary)) {
      if (type !== 'file') continue
      const file = join(temporary, path)
      seal[path] = { sha256: known[path] ?? (await digestOf(file)), stamp: stampOf(file) ?? '' }
    }
    writeFileSync(join(temporary, SEAL), JSON.stringify(seal))
    rename(temporary, folder)
    return folder
  } finally {
    discard(temporary)
  }
}

/** A file larger than this is read on another core. Unit: bytes. */
const LARGE_BYTES = 32 * 1024 * 1024

async function digestOf(file: string): Promise<string> {
  const sizeBytes = statSync(file).size
  if (sizeBytes <= LARGE_BYTES) return sha256File(file)
  const hash = hashBehind(file)
  try {
    return await hash.digest(sizeBytes)
  } finally {
    await hash.stop()
  }
}

function rename(from: string, to: string): void {
  try {
    renameSync(from, to)
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST'].includes(errnoOf(error) ?? '')) throw error
    // Without a seal it is what a crash left.
    if (existsSync(join(to, SEAL))) return
    rmSync(to, { recursive: true, force: true })
    renameSync(from, to)
  }
}

export interface CacheEntry {
  readonly stage: Stage
  readonly key: string
  readonly folder: string
  readonly sizeBytes: number
  readonly usedMs: number
}

/** Files of an entry that findEntry returned, with their digests as they were sealed. */
export function readSeal(folder: string): [file: string, sha256: string][] {
  const seal = JSON.parse(readFileSync(join(folder, SEAL), 'utf8')) as Seal
  return Object.entries(seal).map(([file, sealed]) => [file, sealed.sha256])
}

/** Every complete entry, the most recently used first. */
export function listCache(cacheDir: string): CacheEntry[] {
  const entries = STAGES.flatMap((stage) =>
    namesIn(join(cacheDir, stage))
      .filter((key) => existsSync(join(cacheDir, stage, key, SEAL)))
      .map((key) => {
        const folder = entryFolder(cacheDir, stage, key)
        const sizeBytes = readTree(folder).reduce((sum, entry) => sum + entry.sizeBytes, 0)
        return { stage, key, folder, sizeBytes, usedMs: statSync(join(folder, SEAL)).mtimeMs }
      }),
  )
  return entries.sort((a, b) => b.usedMs - a.usedMs)
}

function namesIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder).filter((name) => !name.startsWith('.')) : []
}

const UNIT_BYTES: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 }

/** `10G` in bytes. */
export function bytesOf(size: string): number {
  const [, digits = '0', unit = ''] = /^(\d+)(\D?)$/.exec(size) ?? []
  return Number(digits) * (UNIT_BYTES[unit] ?? 1)
}

/**
 * Remove the least recently used entries until the rest fits; nobody else may be using the cache.
 *
 * Returns those removed.
 */
export function evict(entries: readonly CacheEntry[], keepBytes: number): CacheEntry[] {
  let kept = 0
  const removed = entries.filter(({ sizeBytes }) => (kept += sizeBytes) > keepBytes)
  for (const { folder } of removed) rmSync(folder, { recursive: true, force: true })
  return removed
}
