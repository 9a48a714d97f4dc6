// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { BuildError } from '../scripts/errors.ts'
import { run } from '../scripts/run.ts'
import type { Workspace } from '../scripts/workspace.ts'
import { assignment, parseConfig } from './config-file.ts'
import type { Config } from './config-file.ts'
import { readKconfig } from './kconfig.ts'
import { makeArgv, makeEnvironment, objectsFolder } from './plan.ts'
import type { KernelPlan } from './plan.ts'
import type { SourceTree } from './tree.ts'
import { problemsOf } from './unmet.ts'

export interface Configured {
  readonly objects: string
  readonly config: Config
}

/**
 * Write the configuration of a plan into its folder of objects, and check that every symbol that is
 * asked for took.
 *
 * The objects are removed when they were compiled from other sources.
 *
 * @throws BuildError E_CONFIG naming each symbol that did not take, its fragment, and what it needs
 */
export async function configure(
  plan: KernelPlan,
  tree: SourceTree,
  workspace: Workspace,
): Promise<Configured> {
  const objects = objectsFolder(plan, workspace)
  claimObjects(objects, tree.objectsKey)
  const wanted = join(objects, 'wanted.config')
  const lines = [...plan.asking.asked.values()].map(({ name, value }) => assignment(name, value))
  writeFileSync(wanted, `${lines.join('\n')}\n`)
  const made = join(objects, '.config')
  const before = existsSync(made) ? readFileSync(made, 'utf8') : undefined
  const argv = makeArgv(plan, tree.folder, objects)
  const options = { logFile: plan.logFile, env: makeEnvironment(plan, workspace) }
  await run([...argv, `KCONFIG_ALLCONFIG=${wanted}`, 'allnoconfig'], options)
  await run([...argv, 'olddefconfig'], options)
  const text = readFileSync(made, 'utf8')
  // Only its time would differ, and make would look at everything again.
  if (text === before) writeFileSync(made, text)
  const config = parseConfig(text)
  const problems = problemsOf({
    asked: plan.asking.asked,
    exceptions: plan.asking.exceptions,
    config,
    kconfig: readKconfig(tree.folder, plan.kernelArch.source),
    arch: plan.arch,
    version: tree.version,
  })
  if (problems.length === 0) return { objects, config }
  const count =
    problems.length === 1
      ? '1 symbol of the configuration is'
      : `${String(problems.length)} symbols of the configuration are`
  throw new BuildError('E_CONFIG', `${count} not as asked for`, {
    because: problems.slice(0, 20),
    hint: 'ask for what is needed too, or list the symbol in exceptions.list beside the fragments',
  })
}

/** Objects of other sources would be taken for current ones: their files are newer. */
function claimObjects(objects: string, key: string): void {
  const mark = join(objects, '.osbuilder-tree')
  if (existsSync(objects) && (!existsSync(mark) || readFileSync(mark, 'utf8') !== key))
    rmSync(objects, { recursive: true })
  mkdirSync(objects, { recursive: true })
  writeFileSync(mark, key)
}
