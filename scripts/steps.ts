// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

import { BuildError } from './errors.ts'
import { reportError } from './log.ts'
import { BUILD_ROOT } from './paths.ts'

const USAGE = `
Do steps one after the other in one process, which is started once and loads once what they share.

  steps.js STEP [ARGUMENT...] [-- STEP [ARGUMENT...]]...

STEP is rootfs, image or initrd; its arguments are those of the step. It ends at the first that fails.
`

const FILES: ReadonlyMap<string, string> = new Map([
  ['rootfs', 'rootfs-builder/rootfs.js'],
  ['image', 'image-builder/image.js'],
  ['initrd', 'initrd-builder/initrd.js'],
])

const words = process.argv.slice(2)
if (words[0] === '-h') process.stdout.write(USAGE.trimStart())
else await doSteps(words)

async function doSteps(rest: readonly string[]): Promise<void> {
  const end = rest.indexOf('--')
  const [name = '', ...given] = end < 0 ? rest : rest.slice(0, end)
  const file = FILES.get(name)
  if (file === undefined) {
    const problem = new BuildError('E_USAGE', `unknown step ${JSON.stringify(name)}`, {
      hint: 'steps.js -h    lists the steps',
    })
    reportError('steps', problem)
    process.exitCode = problem.exitStatus
    return
  }
  const step = join(BUILD_ROOT, file)
  // As if it had been started by hand: it may have to start itself again, in a namespace or a container.
  process.argv = [process.execPath, step, ...given]
  await import(pathToFileURL(step).href)
  // A step that started itself again, in a namespace or a container, has set the status of that.
  if (end >= 0 && (process.exitCode ?? 0) === 0) await doSteps(rest.slice(end + 1))
}
