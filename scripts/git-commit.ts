// SPDX-License-Identifier: Apache-2.0
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { BuildError } from './errors.ts'
import { requireTools, run } from './run.ts'
import { shell } from './shell.ts'
import { discard, temporaryFor } from './temporary.ts'

/** A commit of a repository as a lock names it. */
export interface GitCommit {
  readonly repo: string
  readonly commit: string
  /** With the commits before it, and their tags, which some builds ask git for. */
  readonly withHistory: boolean
}

/** Name of a commit's file in VENDOR_DIR. */
export function gitTitle({ commit, withHistory }: GitCommit): string {
  return withHistory ? `git/${commit}.bundle` : `git/${commit}.pack`
}

/**
 * Write a commit into one file, from which unpackCommit has it without a network.
 *
 * @throws BuildError E_INPUT when the repository does not have it any more
 */
export async function packCommit(of: GitCommit, target: string, logFile: string): Promise<void> {
  requireTools(['git'])
  const { repo, commit, withHistory } = of
  const folder = temporaryFor(`${target}.git`)
  const git = ['git', '-C', folder]
  const options = { logFile }
  writeFileSync(logFile, '', { flag: 'a' })
  try {
    if (!withHistory) {
      await run(['git', 'init', '--quiet', '--bare', folder], options)
      await run([...git, 'fetch', '--quiet', '--depth=1', '--', repo, commit], options)
      await shell`git -C ${folder} rev-list --objects ${commit} | git -C ${folder} pack-objects --quiet --stdout > ${target}`
      return
    }
    await run(['git', 'clone', '--quiet', '--bare', '--', repo, folder], options)
    await run([...git, 'update-ref', 'refs/heads/osbuilder-locked', commit], options)
    // By stdin: xargs takes quotes in names for its own, and splits what is too much for one command.
    await shell`git -C ${folder} for-each-ref --merged ${commit} --format='%(refname)' refs/tags refs/heads/osbuilder-locked | git -C ${folder} bundle create --quiet ${target} --stdin`
  } catch (error) {
    if (!(error instanceof BuildError) || error.code !== 'E_COMMAND') throw error
    throw new BuildError('E_INPUT', `${repo}: commit ${commit} of the lock cannot be had`, {
      because: error.because,
      hint: 'make lock-update    shows what the repository has now',
      cause: error,
    })
  } finally {
    discard(folder)
  }
}

/**
 * Check a commit out of the file that packCommit wrote, into a new folder. What git reads has the very
 * digests that the commit's own name vouches for.
 *
 * @throws BuildError E_DIGEST when the file holds another commit
 */
export async function unpackCommit(
  file: string,
  { commit, withHistory }: Pick<GitCommit, 'commit' | 'withHistory'>,
  folder: string,
  logFile: string,
): Promise<void> {
  requireTools(['git'])
  const options = { logFile }
  try {
    if (withHistory) {
      await run(['git', 'clone', '--quiet', '--no-checkout', '--', file, folder], options)
    } else {
      if (!existsSync(join(folder, '.git'))) await run(['git', 'init', '--quiet', folder], options)
      await shell`git -C ${folder} index-pack --stdin < ${file} > /dev/null`
      writeFileSync(join(folder, '.git/shallow'), `${commit}\n`)
    }
    await run(['git', '-C', folder, 'checkout', '--quiet', '--detach', commit], options)
  } catch (error) {
    if (!(error instanceof BuildError) || error.code !== 'E_COMMAND') throw error
    throw new BuildError('E_DIGEST', `VENDOR_DIR: ${file} does not hold commit ${commit}`, {
      because: error.because,
      hint: 'rm it, and run make vendor again, where there is a network',
      cause: error,
    })
  }
}
