// SPDX-License-Identifier: Apache-2.0
import { statSync } from 'node:fs'

import { sha256File } from '../../scripts/digest.ts'
import { shell } from '../../scripts/shell.ts'
import { listEntries } from '../../scripts/tree-stamp.ts'
import { readTree } from '../../scripts/tree.ts'
import { requireTree, unpackTarball } from './tarball.ts'
import type { ResolvedSource, SourceRequest } from './source.ts'

/** A folder or tarball of the user's. A folder is copied, because patches and builds write into theirs. */
export async function localSource({ settings, logFile }: SourceRequest): Promise<ResolvedSource> {
  const path = settings.KERNEL_TREE
  if (!statSync(path).isDirectory()) {
    return {
      title: path,
      identity: { tarball: path, sha256: sha256File(path) },
      keepsTimes: false,
      unpack: (folder) => unpackTarball(path, folder, logFile),
    }
  }
  requireTree(path, `KERNEL_TREE=${path}`)
  const entries = readTree(path).filter((entry) => !/^\.git(\/|$)/.test(entry.path))
  return Promise.resolve({
    title: path,
    identity: { folder: path, stamp: listEntries(entries).stamp },
    keepsTimes: true,
    unpack: async (folder) => {
      await shell`tar --create --exclude=./.git --directory ${path} . | tar --extract --no-same-owner --directory ${folder}`
    },
  })
}
