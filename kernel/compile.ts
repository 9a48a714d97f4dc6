// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { BuildError } from '../scripts/errors.ts'
import { run } from '../scripts/run.ts'
import type { Workspace } from '../scripts/workspace.ts'
import { valueOf } from './config-file.ts'
import type { Configured } from './configure.ts'
import { COUNTED } from './objects.ts'
import { makeArgv, makeEnvironment } from './plan.ts'
import type { KernelPlan } from './plan.ts'
import { estimateFiles, startProgress } from './progress.ts'
import type { SourceTree } from './tree.ts'

/** Lines of a failed build that tell its cause. */
const TELLING = /\berror:|undefined reference|fatal error|: not found|cannot find|No space left/i

/** How many of them an error shows. */
const MOST_LINES = 12

/**
 * Compile a configured kernel, and its modules when it has any.
 *
 * @returns how many files were compiled
 * @throws BuildError E_COMMAND with the lines that failed, E_FULL when the disk is full
 */
export async function compile(
  plan: KernelPlan,
  tree: SourceTree,
  { objects, config }: Configured,
  workspace: Workspace,
  verbose: boolean,
): Promise<number> {
  const counted = join(objects, COUNTED)
  const isFirst = !existsSync(counted)
  const symbols = [...config.values()].filter((value) => value === 'y').length
  const progress = startProgress({
    title: `${tree.version} ${plan.arch}`,
    about: isFirst ? estimateFiles(symbols) : Number(readFileSync(counted, 'utf8')),
    isTerminal: process.stdout.isTTY && !verbose,
    write: (text) => process.stdout.write(text),
    nowMs: () => Date.now(),
  })
  const targets = [...plan.kernelArch.targets, ...(valueOf(config, 'MODULES') === 'n' ? [] : ['modules'])]
  const logStart = existsSync(plan.logFile) ? statSync(plan.logFile).size : 0
  try {
    await run([...makeArgv(plan, tree.folder, objects), `-j${String(plan.jobs)}`, ...targets], {
      logFile: plan.logFile,
      env: makeEnvironment(plan, workspace),
      onLine: (line) => {
        progress.line(line)
      },
      verbose,
    })
  } catch (error) {
    progress.end()
    throw explain(error, plan.logFile, logStart)
  }
  const done = progress.end()
  // A later build of the same objects compiles fewer; the first tells how many there are.
  if (isFirst) writeFileSync(counted, String(done))
  return done
}

/** The first lines that name what is wrong: with several compilers at once they are not the last. */
function explain(error: unknown, logFile: string, logStart: number): unknown {
  if (!(error instanceof BuildError) || error.code !== 'E_COMMAND') return error
  const said = readFileSync(logFile).subarray(logStart).toString().split('\n')
  const telling = said.filter((line) => TELLING.test(line)).slice(0, MOST_LINES)
  if (telling.length === 0) return error
  return new BuildError('E_COMMAND', 'the kernel cannot be compiled', {
    because: [...telling, `full log: ${logFile}`],
    hint: 'make kernel DEBUG=yes    shows every line; KERNEL_JOBS=1 keeps them in order',
    cause: error,
  })
}
