// SPDX-License-Identifier: Apache-2.0
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { basename, join } from 'node:path'

import { sha256 } from './digest.ts'
import { lockDescriptor } from './run.ts'
import type { Workspace } from './workspace.ts'

/**
 * Do `work` while no other build in this workspace holds a conflicting lock on `path`; waits for its turn.
 *
 * The lock is a file of the workspace, whatever the path: nothing is written beside a folder of the
 * user's. A crash releases it.
 */
export async function withLock<Result>(
  workspace: Workspace,
  path: string,
  mode: 'exclusive' | 'shared',
  work: () => Promise<Result>,
): Promise<Result> {
  const folder = join(workspace.workDir, '.locks')
  mkdirSync(folder, { recursive: true })
  const descriptor = openSync(join(folder, `${basename(path)}-${sha256(path).slice(0, 12)}`), 'a')
  try {
    await lockDescriptor(descriptor, mode)
    return await work()
  } finally {
    closeSync(descriptor)
  }
}
