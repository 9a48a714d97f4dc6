// SPDX-License-Identifier: Apache-2.0
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { BuildError } from '../scripts/errors.ts'
import { withLock } from '../scripts/lock.ts'
import { report } from '../scripts/log.ts'
import { requireTools, startBackground } from '../scripts/run.ts'
import { readSettings, select } from '../scripts/settings.ts'
import { runStep } from '../scripts/step.ts'
import { discard, temporaryFor, writeWhole } from '../scripts/temporary.ts'
import { openWorkspace } from '../scripts/workspace.ts'
import { assignment, differences, parseConfig } from './config-file.ts'
import { configure } from './configure.ts'
import { checkFragmentSettings } from './fragments.ts'
import { makeArgv, makeEnvironment, planKernel } from './plan.ts'
import { checkSourceSettings, resolveSource } from './sources/resolve.ts'
import { SOURCE_SETTINGS } from './sources/source.ts'
import { prepareTree } from './tree.ts'

const USAGE = `
Change the configuration of the kernel in a menu, and keep what changed as a fragment.

  menuconfig.js

  -h  show this help

The fragment is menuconfig.conf in KERNEL_FRAGMENTS, else in WORKDIR/fragments.
`

await runStep({ name: 'kernel-menuconfig', usage: USAGE, needsOwners: false, main })

async function main(): Promise<void> {
  const settings = readSettings({}, [checkSourceSettings, checkFragmentSettings])
  if (!process.stdin.isTTY) {
    throw new BuildError('E_USAGE', 'the menu needs a terminal', {
      hint: 'write a fragment by hand, and give its folder with KERNEL_FRAGMENTS',
    })
  }
  const workspace = openWorkspace(settings)
  const plan = await planKernel(settings, workspace)
  requireTools(['make', 'flex', 'bison', `${plan.cross}gcc`])
  await withLock(workspace, join(workspace.workDir, 'linux'), 'exclusive', async () => {
    const logFile = join(workspace.logDir, 'kernel-source.log')
    const source = await resolveSource({ settings: select(settings, SOURCE_SETTINGS), workspace, logFile })
    const tree = await prepareTree({
      workspace,
      source,
      variants: plan.variants,
      patchesDir: settings.KERNEL_PATCHES,
      logFile,
    })
    writeFileSync(plan.logFile, '')
    const { objects, config } = await configure(plan, tree, workspace)
    // The menu works on a copy: what it leaves is built only once it is a fragment.
    const copy = temporaryFor(join(objects, 'menu.config'))
    try {
      copyFileSync(join(objects, '.config'), copy)
      const menu = await startBackground([...makeArgv(plan, tree.folder, objects), 'menuconfig'], {
        terminal: true,
        env: { ...makeEnvironment(plan, workspace), KCONFIG_CONFIG: copy },
      })
      if ((await menu.exit) !== 0)
        throw new BuildError('E_COMMAND', 'the menu ended with an error; nothing was written')
      const rows = differences(config, parseConfig(readFileSync(copy, 'utf8')))
      if (rows.length === 0) {
        report('CONFIG', 'nothing was changed')
        return
      }
      const folder = settings.KERNEL_FRAGMENTS || join(workspace.workDir, 'fragments')
      const file = join(folder, 'menuconfig.conf')
      mkdirSync(folder, { recursive: true })
      writeWhole(
        file,
        `${withEarlier(
          file,
          rows.map(({ name, after }) => [name, after] as const),
        )}\n`,
      )
      report('CONFIG', `${String(rows.length)} symbols changed`, file)
      report('CONFIG', `make kernel KERNEL_FRAGMENTS=${folder}    builds with them`)
    } finally {
      discard(copy)
      // What the menu keeps of the state before.
      discard(`${copy}.old`)
    }
  })
}

/** The fragment with what an earlier menu changed; what was changed now wins. */
function withEarlier(file: string, changes: readonly (readonly [string, string])[]): string {
  const now = new Map(changes)
  const earlier = existsSync(file)
    ? readFileSync(file, 'utf8').trimEnd().split('\n')
    : ['# Changed in the menu.']
  const kept = earlier.filter((line) => {
    const name = /^(?:# )?CONFIG_(\w+)[= ]/.exec(line)?.[1]
    return name === undefined || !now.has(name)
  })
  return [...kept, ...changes.map(([name, value]) => assignment(name, value))].join('\n')
}
