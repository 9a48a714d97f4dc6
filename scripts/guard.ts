// SPDX-License-Identifier: Apache-2.0
import { accessSync, constants, existsSync, readdirSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

import { sha256 } from './digest.ts'
import { BuildError } from './errors.ts'
import { listingPath, readState } from './manifest.ts'
import { changedPaths, listEntries, readListing } from './tree-stamp.ts'
import { findTree } from './tree-find.ts'
import type { TreeEntry } from './tree.ts'

/** An edited tree's first changes that an error names. */
const NAMED_CHANGES = 5

/** @throws BuildError E_CONFIG when building there would overwrite what is not ours */
export function refuseForeignFolder(output: string): void {
  const protectedFolders = new Map([
    ['/', 'is the root of this machine'],
    [homedir(), 'is your home folder'],
  ])
  const why = protectedFolders.get(output)
  const hint = 'give a new folder with ROOTFS_DIR, or leave it out'
  if (why !== undefined) throw new BuildError('E_CONFIG', `ROOTFS_DIR=${output}: ${why}`, { hint })
  if (!existsSync(output) || readState(output) !== undefined) return
  if (statSync(output).isDirectory() && readdirSync(output).length === 0) return
  throw new BuildError(
    'E_CONFIG',
    `ROOTFS_DIR=${output}: was not made by osbuilder, and would be overwritten`,
    {
      because: ['to pack it as it is:  node build/image-builder/image.js -o kata-containers.img FOLDER'],
      hint,
    },
  )
}

/**
 * The entries of a rootfs that we built and nobody changed since; undefined when there is none.
 *
 * @throws BuildError E_INPUT when a rebuild would lose what the user changed in the rootfs
 * @throws Error EACCES when the rootfs is not the caller's to change
 */
export async function protectEdits(output: string): Promise<readonly TreeEntry[] | undefined> {
  const state = readState(output)
  if (state === undefined || !existsSync(output)) return undefined
  const entries = await findTree(output)
  const now = listEntries(entries)
  if (now.stamp === state.stamp) return entries
  // To a user all of what root built looks changed: its owners are none of the user's.
  accessSync(output, constants.W_OK)
  const kept = listingPath(output)
  const before = existsSync(kept) ? readListing(kept) : []
  const isThatListing = sha256(before.join('\n')) === state.stamp
  const changed = isThatListing ? changedPaths(before, now.lines, NAMED_CHANGES) : []
  throw new BuildError(
    'E_INPUT',
    `${output}: was edited, and other settings would rebuild it without the edits`,
    {
      because: changed.map((path) => `edited: /${path}`),
      hint: `make clean    discards them; to keep them: mv ${output} ${join(dirname(output), 'my_rootfs')}`,
    },
  )
}
