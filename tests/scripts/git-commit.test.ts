// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { packCommit, unpackCommit } from '../../scripts/git-commit.ts'

/** Names that a shell or xargs would take apart. */
const FILES = ['a b', "it's", 'say "x"', 'two\nlines', '$HOME', '-n'].sort()
const TAGS = ["it's", 'say"x"', '$(x)', '-n'].sort()

/** More tags than fit into one command line. */
const MANY = 9000

function git(folder: string, ...argv: string[]): string {
  const user = ['-c', 'user.name=t', '-c', 'user.email=t@example.invalid']
  return execFileSync('git', ['-C', folder, ...user, ...argv], { encoding: 'utf8', stdio: 'pipe' }).trim()
}

/** A repository whose last commit is not on the branch that it shows. */
function repository(folder: string): { readonly repo: string; readonly commit: string } {
  const repo = join(folder, `a "repository" of it's`)
  mkdirSync(repo)
  git(repo, 'init', '--quiet', '--initial-branch=main')
  git(repo, 'commit', '--quiet', '--allow-empty', '--message', 'first')
  git(repo, 'checkout', '--quiet', '-b', 'other')
  for (const name of FILES) writeFileSync(join(repo, name), name)
  git(repo, 'add', '.')
  git(repo, 'commit', '--quiet', '--message', 'second')
  for (const tag of TAGS) git(repo, 'update-ref', `refs/tags/${tag}`, 'HEAD')
  const commit = git(repo, 'rev-parse', 'HEAD')
  git(repo, 'checkout', '--quiet', 'main')
  return { repo, commit }
}

for (const withHistory of [true, false]) {
  t.test(`a commit ${withHistory ? 'with' : 'without'} its history, whatever its names are`, async (t) => {
    const folder = t.testdir()
    const { repo, commit } = repository(folder)
    const [file, logFile, out] = [join(folder, `it's`), join(folder, 'log'), join(folder, 'out "x"')]
    await packCommit({ repo, commit, withHistory }, file, logFile)
    await unpackCommit(file, { commit, withHistory }, out, logFile)
    t.strictSame(
      readdirSync(out)
        .filter((name) => name !== '.git')
        .sort(),
      FILES,
    )
    for (const name of FILES) t.equal(readFileSync(join(out, name), 'utf8'), name)
    if (withHistory) t.strictSame(git(out, 'tag').split('\n').sort(), TAGS)
    t.equal(git(out, 'rev-parse', 'HEAD'), commit)
  })
}

t.test('no tag is lost of a repository with many', async (t) => {
  const folder = t.testdir()
  const { repo, commit } = repository(folder)
  const tags = Array.from({ length: MANY }, (_, number) => `refs/tags/v${String(number).padStart(5, '0')}`)
  const lines = tags.map((tag) => `${commit} ${tag}\n`)
  writeFileSync(join(repo, '.git/packed-refs'), `# pack-refs with: sorted\n${lines.join('')}`)
  const [file, logFile, out] = ['file', 'log', 'out'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  await packCommit({ repo, commit, withHistory: true }, file, logFile)
  await unpackCommit(file, { commit, withHistory: true }, out, logFile)
  t.equal(git(out, 'tag').split('\n').length, MANY + TAGS.length)
})
