// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'

import { findEntry, makeEntry } from './cache.ts'
import { fingerprint } from './digest.ts'

/** Name of the file in its entry of the cache. */
const CONTENT = 'file'

function cacheKey(sha256: string): string {
  return fingerprint({ file: sha256 })
}

/** Path of a file in the cache, by its digest; undefined when it is not there. */
export function cachedFile(cacheDir: string, sha256: string): string | undefined {
  const entry = findEntry(cacheDir, 'package', cacheKey(sha256))
  return entry === undefined ? undefined : join(entry, CONTENT)
}

/**
 * Have a file that was downloaded in the cache, by its digest. Returns its path.
 *
 * @param make writes it when it is not there, and has checked its digest
 */
export async function keepFile(
  cacheDir: string,
  sha256: string,
  make: (target: string) => Promise<void>,
): Promise<string> {
  const known = cachedFile(cacheDir, sha256)
  if (known !== undefined) return known
  const entry = await makeEntry(cacheDir, 'package', cacheKey(sha256), async (folder) => {
    await make(join(folder, CONTENT))
    return { [CONTENT]: sha256 }
  })
  return join(entry, CONTENT)
}
