// SPDX-License-Identifier: Apache-2.0
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

export { TREE_TAR } from '../scripts/cache.ts'

/** Unpack a base tree into an empty folder. */
export async function unpackBase(tarFile: string, targetDir: string): Promise<void> {
  await run(['tar', '--extract', '--file', tarFile, '--directory', targetDir, ...UNPACK_FLAGS])
}
