// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'

import { indexTextFile } from '../../scripts/apt-index.ts'
import { fetchPackageLists, fieldOf, readPackageList } from '../../scripts/apt-lists.ts'
import { BuildError } from '../../scripts/errors.ts'
import { hostArch } from '../../scripts/settings.ts'
import type { AptPlan } from './apt.ts'
import { nearNames } from './near-names.ts'
import { cannotRun } from './workplace.ts'

/** How apt says that packages exclude each other. All else that it meets, files and lists, was checked before. */
const CONFLICT = /held broken packages|unmet dependencies/

/** Lines of the log that tell a cause, not its consequences. */
const TELLING =
  /^(E: (?!setup failed|mmdebstrap failed)|Err:|dpkg: error| \S+ : (Pre)?(Depends|Conflicts|Breaks):)|Hash Sum mismatch/

/** Name what went wrong in the words of the user's settings. */
export async function explainApt(error: unknown, plan: AptPlan, logFile: string): Promise<unknown> {
  if (!(error instanceof BuildError) || error.code !== 'E_COMMAND') return error
  const log = readFileSync(logFile, 'utf8')
  const telling = [...new Set(log.split('\n').filter((line) => TELLING.test(line)))].map((line) =>
    line.slice(0, 200),
  )
  const because = telling.length === 0 ? error.because : [...telling.slice(-6), `full log: ${logFile}`]
  const missing = [
    ...log.matchAll(/Unable to locate package (\S+)|Package '?([^\s']+)'? has no installation candidate/g),
  ]
  if (missing.length > 0) {
    const names = [...new Set(missing.map((match) => String(match[1] ?? match[2])))]
    const known = await knownNames(plan)
    const near = names.flatMap((name) => nearNames(name, known))
    return new BuildError('E_INPUT', `no package ${names.join(', ')} in ${plan.suite}`, {
      because: near.length === 0 ? because : [`near names: ${near.join(', ')}`],
      hint: 'check EXTRA_PKGS, OS_VERSION and REPO_COMPONENTS',
      cause: error,
    })
  }
  const [, version, name] = /Version '([^']*)' for '([^']+)' was not found/.exec(log) ?? []
  if (name !== undefined) {
    return new BuildError('E_INPUT', `no version ${String(version)} of ${name} in ${plan.suite}`, {
      hint: `check EXTRA_PKGS; without =${String(version)} the newest one is taken`,
      cause: error,
    })
  }
  if (plan.arch !== hostArch() && /Exec format error|arch-test|can neither be executed/.test(log)) {
    return cannotRun(plan.arch, because, error)
  }
  if (!CONFLICT.test(log)) return error
  return new BuildError('E_INPUT', 'the packages do not fit together', {
    because,
    hint: 'check EXTRA_PKGS, OS_VERSION and REPO_COMPONENTS',
    cause: error,
  })
}

/** Names of all packages in the archive; none where its lists cannot be had, for a hint is all they are for. */
async function knownNames({ index, request: { cacheDir }, ...of }: AptPlan): Promise<string[]> {
  if (of.locked !== undefined) return of.locked.packages.map(({ name }) => name)
  try {
    const names = index.suites.map(async (suite) => {
      const text = readFileSync(indexTextFile(cacheDir, suite.sha256), 'utf8')
      const lists = await fetchPackageLists(suite, text, { ...of, cacheDir })
      const paragraphs = await Promise.all(lists.map((list) => readPackageList(list, cacheDir)))
      return paragraphs.flat().map((paragraph) => fieldOf(paragraph, 'Package'))
    })
    return (await Promise.all(names)).flat()
  } catch (error) {
    if (error instanceof BuildError) return []
    throw error
  }
}
