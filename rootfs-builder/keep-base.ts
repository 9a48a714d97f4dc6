// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'

import { findEntry, makeEntry } from '../scripts/cache.ts'
import { withLock } from '../scripts/lock.ts'
import { note, report } from '../scripts/log.ts'
import { pullEntries, remoteCache } from '../scripts/remote-cache.ts'
import { TREE_TAR, unpackBase } from './base-tree.ts'
import type { BootstrapOptions, LowerPlan } from './bootstrap/plan.ts'
import type { Build, Wanted } from './build.ts'
import { lowerFingerprint } from './inputs.ts'
import { checkPulled } from './pulled-entry.ts'

/** A base tree that is there, and is being sealed in the cache. */
interface Keeping {
  /** Settles when the cache has it. */
  readonly kept: Promise<unknown>
}

/**
 * Fill the folder with the distro's packages, and keep the tree they make for later builds: reading it once
 * more for its seal needs another core and not the folder.
 */
export async function bootstrap(build: Build, folder: string, wanted: Wanted): Promise<Keeping> {
  const { plan, logFile } = build
  const what = plan.packages.length === 0 ? 'taken from this host' : 'installing packages'
  report('ROOTFS', wanted.title, `${what}, log in ${logFile}`)
  for (const { suite, why } of plan.skipped) note(`suite ${suite} is not used: ${why}`)
  let tellFilled = (): void => undefined
  const filled = new Promise<true>((resolve) => {
    tellFilled = () => {
      resolve(true)
    }
  })
  const kept = makeBase(build, wanted.base, async (tarFile, options) => {
    const lowerDir = plan.lower === undefined ? undefined : await makeLower(build, plan.lower)
    await plan.bootstrap(folder, tarFile, { ...options, ...(lowerDir === undefined ? {} : { lowerDir }) })
    tellFilled()
  })
  const isMade = await Promise.race([filled, kept])
  if (!isMade) await unpackBase(join(build.workspace.cacheDir, 'base', wanted.base, TREE_TAR), folder)
  return { kept }
}

/** Folder in the cache of the tree that another one is made over. */
async function makeLower(build: Build, plan: LowerPlan): Promise<string> {
  const { cacheDir } = build.workspace
  const key = await lowerFingerprint(plan, cacheDir)
  await pullEntries(remoteCache(build.settings), cacheDir, [{ stage: 'base', key }], checkPulled)
  await makeBase(build, key, plan.store)
  return join(cacheDir, 'base', key)
}

/** Put a base tree into the cache; a second build that wants the same waits here. False when it is there. */
async function makeBase(
  { settings, workspace, logFile }: Build,
  key: string,
  make: (tarFile: string, options: BootstrapOptions) => Promise<void>,
): Promise<boolean> {
  const { cacheDir } = workspace
  return await withLock(workspace, join(cacheDir, 'base', key), 'exclusive', async () => {
    if (findEntry(cacheDir, 'base', key) !== undefined) return false
    await makeEntry(cacheDir, 'base', key, (entry) =>
      make(join(entry, TREE_TAR), { logFile, verbose: settings.DEBUG }),
    )
    return true
  })
}
