// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'

import { BuildError } from './errors.ts'
import { reportError } from './log.ts'
import { BUNDLE_ROOT } from './paths.ts'

const USAGE = `
Do steps one after the other in one process, which is started once and loads once what they share.

  steps.js STEP [ARGUMENT...] [-- STEP [ARGUMENT...]]...

STEP is rootfs, image or initrd; its arguments are those of the step. It ends at the first that fails.
`

const STEPS: ReadonlyMap<string, { readonly file: string; readonly load: () => Promise<unknown> }> = new Map([
  ['rootfs', { file: 'rootfs-builder/rootfs.js', load: () => import('../rootfs-builder/rootfs.ts') }],
  ['image', { file: 'image-builder/image.js', load: () => import('../image-builder/image.ts') }],
  ['initrd', { file: 'initrd-builder/initrd.js', load: () => import('../initrd-builder/initrd.ts') }],
])

const words = process.argv.slice(2)
if (words[0] === '-h') process.stdout.write(USAGE.trimStart())
else await doSteps(words)

async function doSteps(rest: readonly string[]): Promise<void> {
  const end = rest.indexOf('--')
  const [name = '', ...given] = end < 0 ? rest : rest.slice(0, end)
  const step = STEPS.get(name)
  if (step === undefined) {
    const problem = new BuildError('E_USAGE', `unknown step ${JSON.stringify(name)}`, {
      hint: 'steps.js -h    lists the steps',
    })
    reportError('steps', problem)
    process.exitCode = problem.exitStatus
    return
  }
  // As if it had been started by hand: it may have to start itself again, in a namespace or a container.
  process.argv = [process.execPath, join(BUNDLE_ROOT, step.file), ...given]
  await step.load()
  // A step that started itself again, in a namespace or a container, has set the status of that.
  if (end >= 0 && (process.exitCode ?? 0) === 0) await doSteps(rest.slice(end + 1))
}
