// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { sha256 } from '../../scripts/digest.ts'
import { BuildError } from '../../scripts/errors.ts'
import { capture, requireTools, run } from '../../scripts/run.ts'
import { writeWhole } from '../../scripts/temporary.ts'
import { requireTree } from './tarball.ts'
import type { ResolvedSource, SourceRequest } from './source.ts'

const DAY_MS = 24 * 60 * 60 * 1000

/** One commit of a repository; only that commit is fetched. */
export async function gitSource(request: SourceRequest): Promise<ResolvedSource> {
  requireTools(['git'])
  const { KERNEL_REPO: repo, KERNEL_TAG: tag } = request.settings
  const commit = await resolveCommit(request)
  return {
    title: `${tag} of ${repo} (${commit.slice(0, 12)})`,
    identity: { repo, commit },
    keepsTimes: false,
    unpack: (folder) => fetchCommit({ repo, commit }, folder, request.logFile),
    facts: () => Promise.resolve({ git: { repo, commit }, signers: [], indexes: [] }),
  }
}

/** Fetch one commit, without those before it, into an empty folder. */
export async function fetchCommit(
  { repo, commit }: { readonly repo: string; readonly commit: string },
  folder: string,
  logFile: string,
): Promise<void> {
  requireTools(['git'])
  const options = { logFile }
  await run(['git', 'init', '--quiet', folder], options)
  await run(['git', '-C', folder, 'fetch', '--quiet', '--depth=1', '--', repo, commit], options)
  await run(['git', '-C', folder, 'checkout', '--quiet', '--detach', 'FETCH_HEAD'], options)
  leaveRepository(repo, folder)
}

/** The version of the kernel must not depend on a repository around its sources. */
export function leaveRepository(repo: string, folder: string): void {
  rmSync(join(folder, '.git'), { recursive: true, force: true })
  requireTree(folder, `KERNEL_REPO=${repo}`)
}

interface Known {
  readonly commit: string
  readonly checkedAtMs: number
}

/**
 * The commit a tag or branch stands for; asked for as often as REFRESH says.
 *
 * @throws BuildError E_INPUT when the repository has no such tag or branch
 */
async function resolveCommit({ settings, workspace }: SourceRequest): Promise<string> {
  const { KERNEL_REPO: repo, KERNEL_TAG: tag, REFRESH: refresh } = settings
  if (/^[0-9a-f]{40}$/.test(tag)) return tag
  const folder = join(workspace.cacheDir, 'kernel')
  const file = join(folder, `git-${sha256(`${repo}\n${tag}`).slice(0, 12)}.json`)
  const known = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Known) : undefined
  if (
    known !== undefined &&
    (refresh === 'never' || (refresh === 'daily' && Date.now() - known.checkedAtMs < DAY_MS))
  )
    return known.commit
  // The commit of an annotated tag is in the line that ends in ^{}.
  const patterns = [`refs/tags/${tag}^{}`, `refs/tags/${tag}`, `refs/heads/${tag}`]
  const lines = (await capture(['git', 'ls-remote', '--', repo, ...patterns])).split('\n')
  const commit = patterns
    .map((name) => lines.find((line) => line.endsWith(`\t${name}`))?.split('\t')[0])
    .find((found) => found !== undefined)
  if (commit === undefined) {
    throw new BuildError('E_INPUT', `KERNEL_TAG=${tag}: ${repo} has no such tag or branch`, {
      hint: `git ls-remote ${repo}    lists them; a commit is given by its 40 digits`,
    })
  }
  mkdirSync(folder, { recursive: true })
  writeWhole(file, JSON.stringify({ commit, checkedAtMs: Date.now() } satisfies Known))
  return commit
}
