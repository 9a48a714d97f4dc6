// SPDX-License-Identifier: Apache-2.0
import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { signedIndexFile } from '../apt-index.ts'
import type { IndexRequest, IndexedSuite } from '../apt-index.ts'
import { digestIn, fetchPackageLists, fieldOf, readPackageList } from '../apt-lists.ts'
import type { PackageList } from '../apt-lists.ts'
import { signedText } from '../apt-package.ts'
import { keepFile } from '../kept-file.ts'
import type { LockPlaces } from './locked-file.ts'
import { disagreeing, otherSigners, vendoredIndexes } from './locked-index.ts'
import type { LockedGuest, LockedIndex } from './package-lock.ts'
import { readSigned } from '../signed-text.ts'

/** A suite's index, and the lists of packages that it names. */
export interface SuiteLists {
  readonly suite: IndexedSuite
  readonly text: string
  readonly lists: readonly PackageList[]
}

/** Have the lists that a signed index names. */
export async function haveLists(
  suite: IndexedSuite,
  request: IndexRequest,
  { components, debianArch }: { readonly components: readonly string[]; readonly debianArch: string },
): Promise<SuiteLists> {
  const text = await signedText(suite, request)
  const { cacheDir } = request
  return { suite, text, lists: await fetchPackageLists(suite, text, { components, debianArch, cacheDir }) }
}

/** A suite's index as a lock names it; like its lists it is kept for make vendor, when the mirror has another. */
export async function lockedAptIndex({ suite, lists }: SuiteLists, cacheDir: string): Promise<LockedIndex> {
  const file = signedIndexFile(cacheDir, suite.sha256)
  await keepFile(cacheDir, suite.sha256, (target) => {
    copyFileSync(file, target)
    return Promise.resolve()
  })
  return {
    name: suite.suite,
    url: `${suite.url}/dists/${suite.suite}/InRelease`,
    sizeBytes: readFileSync(file).length,
    sha256: suite.sha256,
    archive: suite.url,
    dateSeconds: suite.dateSeconds,
    signers: suite.signers,
    lists: lists.map(({ path, url, sizeBytes, sha256 }) => ({ path, url, sizeBytes, sha256 })),
  }
}

/**
 * Check the signed indexes in VENDOR_DIR, when they are there: signature, signers, and that they name the
 * packages of the lock with the same digests.
 *
 * @throws BuildError E_SIGNATURE for another signer, E_DIGEST where lock and index disagree
 */
export async function checkAptIndexes(
  { indexes, packages }: Pick<LockedGuest, 'indexes' | 'packages'>,
  keyring: string,
  places: LockPlaces,
): Promise<void> {
  for (const { index, file, lists } of await vendoredIndexes(indexes, places)) {
    const { text, signers } = await readSigned(readFileSync(file), {
      address: index.url,
      keyring,
      scratch: join(places.cacheDir, 'index', `vendored-${index.sha256.slice(0, 12)}`),
      hint: 'check REPO_KEYRING: the keyring that signs the mirror which was locked',
    })
    if (!signers.some((key) => index.signers.includes(key))) throw otherSigners(index, signers, places)
    const named = new Map<string, string>()
    for (const list of lists) {
      if (digestIn(text, list.path) !== list.sha256) {
        throw disagreeing(places, index, [`${list.path}: the index names another digest`])
      }
      for (const item of await readPackageList(list, places.cacheDir)) {
        const key = ['Package', 'Version', 'Architecture'].map((name) => fieldOf(item, name)).join(' ')
        named.set(key, `${fieldOf(item, 'SHA256')} ${fieldOf(item, 'Size')}`)
      }
    }
    const wrong = packages
      .filter((item) => item.index === index.name)
      .filter((item) => {
        const key = [item.name, item.version, item.arch].join(' ')
        return named.get(key) !== `${item.sha256} ${String(item.sizeBytes)}`
      })
    if (wrong.length > 0)
      throw disagreeing(
        places,
        index,
        wrong.map(({ name, version }) => `${name} ${version}`),
      )
  }
}
