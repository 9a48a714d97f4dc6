// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'

import { BuildError } from '../scripts/errors.ts'
import { kernelChanges } from '../scripts/package-lock/lock-diff.ts'
import { withLock } from '../scripts/lock.ts'
import { lockToWrite } from '../scripts/package-lock/package-lock.ts'
import type { LockedKernel } from '../scripts/package-lock/package-lock.ts'
import { readSettings, select } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import { runStep } from '../scripts/step.ts'
import type { StepArguments } from '../scripts/step.ts'
import { openWorkspace } from '../scripts/workspace.ts'
import type { Workspace } from '../scripts/workspace.ts'
import { refuseOffline, saveLock, tellCovered, unlocked } from '../scripts/package-lock/write-lock.ts'
import { askedKernel, isKernel } from './sources/locked.ts'
import { checkSourceSettings, resolveSource } from './sources/resolve.ts'
import { SOURCE_SETTINGS } from './sources/source.ts'

const USAGE = `
Write the sources of a guest kernel to LOCK_FILE.

  lock.js [-u]

  -h  show this help
  -u  show what would change in a lock that is there; WRITE=yes writes it

Every setting comes from the environment; "make help" lists them.
`

await runStep({ name: 'lock', usage: USAGE, switches: ['u'], needsOwners: false, main })

async function main(given: StepArguments): Promise<void> {
  const settings = readSettings({}, [checkSourceSettings, refuseOffline])
  if (settings.KERNEL_SOURCE === 'local') {
    throw new BuildError('E_CONFIG', 'KERNEL_SOURCE=local: sources of this machine are not locked', {
      hint: 'KERNEL_SOURCE=distro, kernel.org or git    names sources that others have too',
    })
  }
  const workspace = openWorkspace(settings)
  const isUpdate = given.has('u')
  await withLock(workspace, settings.LOCK_FILE, 'exclusive', async () => {
    const lock = lockToWrite(settings.LOCK_FILE)
    const current = lock.kernels.find((kernel) => isKernel(kernel, settings))
    if (current !== undefined && !isUpdate) {
      tellCovered('kernel', settings.LOCK_FILE, current.title)
      return
    }
    const kernel = await withLock(workspace, workspace.cacheDir, 'shared', () =>
      resolveKernel(settings, workspace),
    )
    saveLock(settings, {
      title: 'kernel',
      count: kernel.title,
      isUpdate,
      isNew: current === undefined,
      changes: kernelChanges(current, kernel),
      lock: { ...lock, kernels: [...lock.kernels.filter((one) => one !== current), kernel] },
    })
  })
}

async function resolveKernel(settings: Settings, workspace: Workspace): Promise<LockedKernel> {
  const logFile = join(workspace.logDir, 'kernel-source.log')
  const asking = select(unlocked(settings), SOURCE_SETTINGS)
  const { title, identity, facts } = await resolveSource({ settings: asking, workspace, logFile })
  if (facts === undefined) throw new TypeError(`${title}: has no facts for a lock`)
  return { asked: askedKernel(settings), title, identity, ...(await facts()) }
}
