// SPDX-License-Identifier: Apache-2.0
import { copyFileSync, existsSync, statSync } from 'node:fs'
import { basename } from 'node:path'

import { sha256File } from '../digest.ts'
import { BuildError } from '../errors.ts'
import { fetchFile } from '../fetch-file.ts'
import { keepFile } from '../kept-file.ts'
import type { LockedFile } from './package-lock.ts'
import { blobPath, isLayout } from './vendor-layout.ts'

/** Where the files of a lock may be. */
export interface LockPlaces {
  readonly lockFile: string
  readonly cacheDir: string
  /** VENDOR_DIR: a file in it is taken before the network is asked. */
  readonly vendorDir: string
  readonly isOffline: boolean
  /** A mirror that stands in for the one of the lock. */
  readonly mirror?: { readonly locked: string; readonly asked: string }
}

/** A file of a lock, with what messages call it. */
export interface WantedFile extends LockedFile {
  readonly title: string
}

/** Files that are fetched at once: a mirror serves few of them quicker. */
export const DOWNLOADS = 8

/**
 * Have a file of the lock: from the cache, from VENDOR_DIR, else from its address. Returns its path.
 *
 * @throws BuildError E_DIGEST when it is another file, E_NETWORK when it cannot be had, E_INPUT when it is
 *   not in VENDOR_DIR and nothing may be asked
 */
export async function lockedFile(file: WantedFile, places: LockPlaces): Promise<string> {
  return keepFile(places.cacheDir, file.sha256, async (target) => {
    const vendored = places.vendorDir === '' ? undefined : blobPath(places.vendorDir, file.sha256)
    if (vendored !== undefined && existsSync(vendored)) takeVendored(file, vendored, target)
    else if (places.isOffline) throw notVendored(file.title, places.vendorDir)
    else await download(file, places, target)
    const sizeBytes = statSync(target).size
    if (sizeBytes === file.sizeBytes) return
    throw new BuildError('E_DIGEST', `${file.title}: its digest and its size in the lock do not fit`, {
      because: [`${String(sizeBytes)} bytes, and ${places.lockFile} says ${String(file.sizeBytes)}`],
      hint: `git checkout -- ${basename(places.lockFile)}    or make lock-update`,
    })
  })
}

/** Have many files, several at once. Returns their paths in the same order. */
export async function lockedFiles(files: readonly WantedFile[], places: LockPlaces): Promise<string[]> {
  return inParallel(files, DOWNLOADS, (file) => lockedFile(file, places))
}

/** Do the same with many things, a few at once; the first failure ends all. Results are in the same order. */
export async function inParallel<Item, Result>(
  items: readonly Item[],
  count: number,
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = []
  const waiting = [...items.entries()]
  const worker = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      try {
        results[next[0]] = await work(next[1])
      } catch (error) {
        waiting.length = 0
        throw error
      }
    }
  }
  // All of them come to their end before an error is told: none writes into a folder that goes away.
  const outcomes = await Promise.allSettled(Array.from({ length: count }, worker))
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
  return results
}

function takeVendored(file: WantedFile, vendored: string, target: string): void {
  copyFileSync(vendored, target)
  const found = sha256File(target)
  if (found === file.sha256) return
  throw new BuildError('E_DIGEST', `${file.title}: the file in VENDOR_DIR was changed`, {
    because: [`sha256 locked: ${file.sha256}`, `sha256 found:  ${found}   (${vendored})`],
    hint: `rm ${vendored}    and run make vendor again, where there is a network`,
  })
}

/** The error for what a lock names and VENDOR_DIR lacks, where nobody may be asked. */
export function notVendored(title: string, vendorDir: string): BuildError {
  const isThere = isLayout(vendorDir)
  return new BuildError(
    'E_INPUT',
    isThere
      ? `${title}: is not in VENDOR_DIR=${vendorDir}`
      : `VENDOR_DIR=${vendorDir}: is no folder of make vendor`,
    {
      because: [`the lock names ${isThere ? 'it' : title}, and OFFLINE=yes asks nobody`],
      hint: 'make vendor    gathers what the lock names, where there is a network',
    },
  )
}

async function download(file: WantedFile, places: LockPlaces, target: string): Promise<void> {
  const [url = '', ...others] = addresses(file.url, places)
  try {
    await fetchLocked(url, file, target)
  } catch (error) {
    const [other] = others
    if (other === undefined || !(error instanceof BuildError)) throw gone(error, file, places)
    try {
      await fetchLocked(other, file, target)
    } catch (second) {
      throw gone(second, file, places)
    }
  }
}

/** A mirror that was asked for comes first: it may have what the locked one has removed. */
function addresses(url: string, { mirror }: LockPlaces): string[] {
  if (mirror === undefined || mirror.asked === mirror.locked || !url.startsWith(mirror.locked)) return [url]
  return [`${mirror.asked}${url.slice(mirror.locked.length)}`, url]
}

async function fetchLocked(url: string, file: WantedFile, target: string): Promise<void> {
  await fetchFile({ url, target, digest: file.sha256, digestOrigin: 'the lock', hint: '' })
}

function gone(error: unknown, file: WantedFile, { lockFile }: LockPlaces): unknown {
  if (!(error instanceof BuildError) || (error.code !== 'E_NETWORK' && error.code !== 'E_DIGEST'))
    return error
  const message =
    error.code === 'E_DIGEST'
      ? `${file.title}: the mirror has another file than ${basename(lockFile)} names`
      : `${file.title}: is named in ${basename(lockFile)}, and cannot be had`
  return new BuildError(error.code, message, {
    because: error.code === 'E_DIGEST' ? error.because : [error.message, ...error.because],
    hint: 'make lock-update    shows what the mirror has now; REPO_URL=… may name an archive that still has it',
    cause: error,
  })
}
