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

/** Name of a tree's archive in its entry of the cache; members begin with `./`. */
export const TREE_TAR = 'tree.tar'

/** Unpack a base tree into an empty folder. */
export async function unpackBase(tarFile: string, targetDir: string): Promise<void> {
  await run(['tar', '--extract', '--file', tarFile, '--directory', targetDir, ...UNPACK_FLAGS])
}
