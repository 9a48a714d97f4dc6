// SPDX-License-Identifier: Apache-2.0
import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs'
import { basename, join } from 'node:path'

import { sha256 } from './digest.ts'
import { errnoOf } from './errors.ts'
import { lockDescriptor } from './run.ts'
import type { Workspace } from './workspace.ts'

/**
 * Do `work` while no other build in this workspace holds a conflicting lock on `path`; waits for its turn.
 *
 * The lock is a file of the workspace, or of the cache for what is in it, which others may share: nothing
 * is written beside a folder of the user's. A crash releases it.
 */
export async function withLock<Result>(
  workspace: Pick<Workspace, 'workDir' | 'cacheDir'>,
  path: string,
  mode: 'exclusive' | 'shared',
  work: () => Promise<Result>,
): Promise<Result> {
  const descriptor = openLock(workspace, path)
  try {
    await lockDescriptor(descriptor, mode)
    return await work()
  } finally {
    closeSync(descriptor)
  }
}

/** As withLock, but when somebody else holds the lock `work` is not done. */
export async function whenFree(
  workspace: Pick<Workspace, 'workDir' | 'cacheDir'>,
  path: string,
  work: () => Promise<void>,
): Promise<void> {
  const descriptor = openLock(workspace, path)
  try {
    if (await lockDescriptor(descriptor, 'exclusive', 'do not wait')) await work()
  } finally {
    closeSync(descriptor)
  }
}

function openLock(workspace: Pick<Workspace, 'workDir' | 'cacheDir'>, path: string): number {
  const isInCache = `${path}/`.startsWith(`${workspace.cacheDir}/`)
  const folder = join(isInCache ? workspace.cacheDir : workspace.workDir, '.locks')
  mkdirSync(folder, { recursive: true })
  const file = join(folder, `${basename(path)}-${sha256(path).slice(0, 12)}`)
  try {
    return openSync(file, 'a')
  } catch (error) {
    // Another user's: for a lock it is enough to read it.
    if (errnoOf(error) !== 'EACCES' || !existsSync(file)) throw error
    return openSync(file, 'r')
  }
}
