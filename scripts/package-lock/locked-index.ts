// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { basename } from 'node:path'

import { BuildError } from '../errors.ts'
import { note } from '../log.ts'
import { lockedFile, notVendored } from './locked-file.ts'
import type { LockPlaces } from './locked-file.ts'
import type { LockedIndex } from './package-lock.ts'
import { blobPath, isLayout, missingFiles } from './vendor-layout.ts'

/** A signed index that is at hand, with the lists it names. */
export interface VendoredIndex {
  readonly index: LockedIndex
  readonly file: string
  readonly lists: readonly { readonly path: string; readonly sha256: string; readonly file: string }[]
}

/**
 * Those signed indexes of a lock that VENDOR_DIR has, each by its digest.
 *
 * Without OFFLINE a folder that has none is as good as no folder.
 *
 * @throws BuildError E_DIGEST when the lock names an index that make vendor never saw
 */
export async function vendoredIndexes(
  indexes: readonly LockedIndex[],
  places: LockPlaces,
): Promise<VendoredIndex[]> {
  const found: VendoredIndex[] = []
  const [first] = indexes
  if (places.isOffline && first !== undefined && !isLayout(places.vendorDir)) {
    throw notVendored(`index ${first.name}`, places.vendorDir)
  }
  const missing = missingFiles(places.vendorDir)
  for (const index of indexes) {
    if (!existsSync(blobPath(places.vendorDir, index.sha256))) {
      if (places.isOffline) tellMissing(index, missing, places)
      continue
    }
    const have = (file: { url: string; sizeBytes: number; sha256: string }): Promise<string> =>
      lockedFile({ ...file, title: file.url }, places)
    const lists = []
    for (const list of index.lists ?? []) lists.push({ ...list, file: await have(list) })
    found.push({ index, file: await have(index), lists })
  }
  return found
}

function tellMissing(
  index: LockedIndex,
  missing: readonly string[],
  { lockFile, vendorDir }: LockPlaces,
): void {
  if (missing.includes(index.sha256)) {
    note(
      `index ${index.name}: could not be had any more when VENDOR_DIR was filled; digests are the lock's alone`,
    )
    return
  }
  throw new BuildError('E_DIGEST', `${basename(lockFile)}: VENDOR_DIR has another index ${index.name}`, {
    because: [`sha256 locked: ${index.sha256}   (not in ${vendorDir})`],
    hint: 'make vendor    gathers what the lock names now; git checkout the lock if nobody meant to change it',
  })
}

/** The error for an index that keys signed which did not when it was locked. */
export function otherSigners(
  index: LockedIndex,
  signers: readonly string[],
  { lockFile }: LockPlaces,
): BuildError {
  return new BuildError(
    'E_SIGNATURE',
    `index ${index.name}: signed by another key than ${basename(lockFile)} names`,
    {
      because: [`locked: ${index.signers.join(' ')}`, `found:  ${signers.join(' ')}   (${index.url})`],
      hint: 'find out which is right; make lock-update takes the new one',
    },
  )
}

/** The error for a lock that is not what the signed index says. */
export function disagreeing(
  { lockFile }: LockPlaces,
  index: LockedIndex,
  what: readonly string[],
): BuildError {
  const shown = what.slice(0, 8)
  const more = what.length - shown.length
  return new BuildError('E_DIGEST', `${basename(lockFile)}: disagrees with the signed index ${index.name}`, {
    because: [...shown, ...(more > 0 ? [`and ${String(more)} more`] : [])],
    hint: `git checkout -- ${basename(lockFile)}    or make lock-update, which takes what the index says`,
  })
}
