// SPDX-License-Identifier: Apache-2.0
import { existsSync, readdirSync, rmSync, statSync, utimesSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { run } from '../scripts/run.ts'

/**
 * How the trees in the cache are unpacked. Device nodes stay out: a user namespace cannot make them,
 * and the packers add their own.
 */
export const UNPACK_FLAGS = [
  '--numeric-owner',
  '--preserve-permissions',
  '--xattrs',
  '--xattrs-include=*',
  '--exclude=./dev/*',
]

/** Path of the base tree of that fingerprint in the cache, as a tar whose members begin with `./`. */
export function baseTar(cacheDir: string, fingerprint: string): string {
  return join(cacheDir, 'base', `${fingerprint}.tar`)
}

/** True when the base tree is in the cache; it counts as used now. */
export function hasBase(tarFile: string): boolean {
  if (!existsSync(tarFile)) return false
  utimesSync(tarFile, new Date(), new Date())
  return true
}

/** Unpack a base tree into an empty folder. */
export async function unpackBase(tarFile: string, targetDir: string): Promise<void> {
  await run(['tar', '--extract', '--file', tarFile, '--directory', targetDir, ...UNPACK_FLAGS])
}

/**
 * Keep the `kept` most recently used tars of a folder of the cache, and what belongs to each by its name.
 *
 * @param tarFile one of them, which tells the folder
 */
export function evict(tarFile: string, kept: number): void {
  const folder = dirname(tarFile)
  const names = readdirSync(folder)
  const ages = names
    .filter((name) => /^[0-9a-f]{64}\.tar$/.test(name))
    .map((name) => ({ key: name.slice(0, -'.tar'.length), usedMs: statSync(join(folder, name)).mtimeMs }))
    .sort((a, b) => b.usedMs - a.usedMs)
  const old = new Set(ages.slice(kept).map(({ key }) => key))
  for (const name of names) {
    if (old.has(name.split('.')[0] ?? '')) rmSync(join(folder, name), { force: true })
  }
}
