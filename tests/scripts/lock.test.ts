// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

import t from 'tap'

import { withLock } from '../../scripts/lock.ts'
import { openWorkspace } from '../../scripts/workspace.ts'
import type { Workspace } from '../../scripts/workspace.ts'
import { moduleUrl } from './child.ts'

function openIn(folder: string): Workspace {
  return openWorkspace({
    WORKDIR: join(folder, 'w'),
    CACHE_DIR: '',
    ROOTFS_BUILD_DEST: '',
    IMAGES_BUILD_DEST: '',
  })
}

/** Another process that holds a lock until it is killed. */
async function holder(
  workspace: Workspace,
  path: string,
  mode: 'exclusive' | 'shared',
): Promise<ChildProcess> {
  const script = `
    import { withLock } from '${moduleUrl('scripts/lock.js')}'
    await withLock(${JSON.stringify(workspace)}, '${path}', '${mode}', async () => {
      console.log('held')
      await new Promise((resolve) => setTimeout(resolve, 20_000))
    })`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  return child
}

function sleep(milliseconds: number): Promise<'slept'> {
  return new Promise((resolve) => setTimeout(() => resolve('slept'), milliseconds))
}

t.test('an exclusive lock waits for another process, and has its turn when that is killed', async (t) => {
  const workspace = openIn(t.testdir())
  const child = await holder(workspace, '/some/out', 'exclusive')
  const turn = withLock(workspace, '/some/out', 'exclusive', async () => 'turn')
  t.equal(await Promise.race([turn, sleep(300)]), 'slept')
  child.kill('SIGKILL')
  t.equal(await Promise.race([turn, sleep(3000)]), 'turn')
})

t.test('an exclusive lock waits for a shared one, a shared one does not', async (t) => {
  const workspace = openIn(t.testdir())
  const child = await holder(workspace, '/some/out', 'shared')
  t.equal(await withLock(workspace, '/some/out', 'shared', async () => 'turn'), 'turn')
  const turn = withLock(workspace, '/some/out', 'exclusive', async () => 'turn')
  t.equal(await Promise.race([turn, sleep(300)]), 'slept')
  child.kill('SIGKILL')
  await turn
})

t.test('outputs of the same name in two folders have two locks', async (t) => {
  const workspace = openIn(t.testdir())
  const child = await holder(workspace, '/one/out', 'exclusive')
  t.equal(await withLock(workspace, '/two/out', 'exclusive', async () => 'turn'), 'turn')
  child.kill('SIGKILL')
})

t.test('a lock is released when the work fails', async (t) => {
  const workspace = openIn(t.testdir())
  const fails = withLock(workspace, 'out', 'exclusive', async () => Promise.reject(new Error('no')))
  await t.rejects(fails, { message: 'no' })
  t.equal(await withLock(workspace, 'out', 'exclusive', async () => 'turn'), 'turn')
})
