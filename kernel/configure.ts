// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { BuildError } from '../scripts/errors.ts'
import { run } from '../scripts/run.ts'
import type { Workspace } from '../scripts/workspace.ts'
import { assignment, parseConfig } from './config-file.ts'
import type { Config } from './config-file.ts'
import { readKconfig } from './kconfig.ts'
import { claimObjects } from './objects.ts'
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
 * @throws BuildError E_CONFIG naming each symbol that did not take, its fragment, and what it needs
 */
export async function configure(
  plan: KernelPlan,
  tree: SourceTree,
  workspace: Workspace,
): Promise<Configured> {
  const objects = objectsFolder(plan, workspace)
  await claimObjects(objects, tree.objectsKey, plan)
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
