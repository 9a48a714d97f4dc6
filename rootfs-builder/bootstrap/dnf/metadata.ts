// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { fingerprint, sha256, sha256File } from '../../../scripts/digest.ts'
import { BuildError } from '../../../scripts/errors.ts'
import { withLock } from '../../../scripts/lock.ts'
import { PRIVATE_NAMESPACE } from '../../../scripts/namespace.ts'
import { capture, requireTools, run } from '../../../scripts/run.ts'
import { discard, temporaryFor } from '../../../scripts/temporary.ts'
import { nearNames } from '../near-names.ts'
import { DNF_LOGS, dnfArgv, dnfConfig } from './config.ts'
import type { DnfSource } from './config.ts'
import { explainDnf, missingPackages } from './explain.ts'

/** The index of one repository as it was when it was last looked at. */
export interface IndexedRepository {
  readonly id: string
  readonly url: string
  /** Digest of repomd.xml, which names all else by its digest. */
  readonly sha256: string
  /** Newest of the times inside. Unit: seconds since 1970. */
  readonly dateSeconds: number
}

/** Folder of the cache that dnf keeps its own copies of these repositories in. */
export function dnfCache(source: DnfSource, cacheDir: string): string {
  const { repositories, arch, releaseVersion, keys } = source
  const key = fingerprint({
    repositories: repositories === 'host' ? repositories : repositories.map((row) => ({ ...row })),
    arch,
    releaseVersion,
    keys: keys.map((file) => sha256File(file)),
  })
  return join(cacheDir, 'mirror', key)
}

/** Do `work` while no other build works in dnf's folder, which two at once would spoil. */
export async function withDnfCache<Result>(
  source: DnfSource,
  cacheDir: string,
  work: (folder: string) => Promise<Result>,
): Promise<Result> {
  const folder = dnfCache(source, cacheDir)
  return withLock({ cacheDir, workDir: cacheDir }, folder, 'exclusive', async () => {
    mkdirSync(folder, { recursive: true })
    // An entry of the cache whose files dnf verifies itself.
    writeFileSync(join(folder, 'seal.json'), '{}')
    return work(folder)
  })
}

/**
 * Have dnf fetch and verify the indexes of all repositories, and return what it got.
 *
 * @throws BuildError E_SIGNATURE when an index is not signed by the keys, E_NETWORK when the mirror cannot
 *   be reached or lacks a repository that is needed
 */
export async function refreshIndexes(source: DnfSource, folder: string): Promise<IndexedRepository[]> {
  requireTools(['dnf', 'rpm', 'setpriv', 'unshare', 'setsid'])
  const scratch = temporaryFor(`${folder}.refresh`)
  try {
    prepareScratch(scratch, source)
    const logFile = join(scratch, 'log')
    const root = join(scratch, 'root')
    mkdirSync(root)
    const argv = dnfArgv(source, { scratch, cache: folder }, root, ['makecache', '--refresh'])
    try {
      await run([...PRIVATE_NAMESPACE, ...argv], { logFile, cwd: '/', env: { HOME: scratch } })
    } catch (error) {
      throw explainDnf(error, source, readFileSync(logFile, 'utf8'))
    }
    const found = readIndexes(source, folder)
    if (found.length > 0) return found
    throw new BuildError('E_INPUT', 'dnf has no repository to install from', {
      because: source.repositories === 'host' ? ['DISTRO_REPO=yes: those of this host'] : [],
      hint:
        source.repositories === 'host'
          ? 'dnf repolist    shows those of this host; or leave DISTRO_REPO out'
          : 'check REPO_URL',
    })
  } finally {
    discard(scratch)
  }
}

/** Folder of dnf's configuration and logs. */
export function prepareScratch(scratch: string, source: DnfSource): void {
  mkdirSync(join(scratch, DNF_LOGS), { recursive: true })
  writeFileSync(join(scratch, 'dnf.conf'), dnfConfig(source))
}

/** What dnf adds to the id of a repository, for the name of the folder of its copy. */
const HASH = /-[0-9a-f]{16}$/

/** The indexes that dnf has; a repository that may be absent and is has none. */
export function readIndexes(source: DnfSource, folder: string): IndexedRepository[] {
  if (!existsSync(folder)) return []
  const rows =
    source.repositories === 'host'
      ? readdirSync(folder)
          .filter((name) => HASH.test(name))
          .sort()
          .map((name) => ({ id: name.replace(HASH, ''), url: 'this host' }))
      : source.repositories
  return rows.flatMap(({ id, url }) => {
    const copy = repositoryFolder(folder, id)
    const file = join(copy ?? '', 'repodata', 'repomd.xml')
    if (copy === undefined || !existsSync(file)) return []
    const content = readFileSync(file)
    const times = [...content.toString().matchAll(/<timestamp>(\d+)/g)].map((match) => Number(match[1]))
    return [{ id, url, sha256: sha256(content), dateSeconds: Math.max(0, ...times) }]
  })
}

/** Folder of dnf's copy of a repository's index; undefined when there is none. */
export function repositoryFolder(folder: string, id: string): string | undefined {
  const name = readdirSync(folder)
    .sort()
    .find((one) => HASH.test(one) && one.replace(HASH, '') === id)
  return name === undefined ? undefined : join(folder, name)
}

/**
 * Name why packages could not be installed from the repositories, with names that are near to missing ones.
 *
 * @param folder dnf's copies of the indexes
 */
export async function explainInstall(
  error: unknown,
  source: DnfSource,
  folder: string,
  logFile: string,
): Promise<unknown> {
  const log = readFileSync(logFile, 'utf8')
  const missing = missingPackages(log)
  if (missing.length === 0) return explainDnf(error, source, log)
  const all = await packageNames(source, folder)
  const near = missing.flatMap((name) => nearNames(name, all))
  return new BuildError('E_INPUT', `no package ${missing.join(', ')} in the repositories`, {
    because: near.length === 0 ? [] : [`near names: ${near.join(', ')}`],
    hint: 'check EXTRA_PKGS and OS_VERSION',
    cause: error,
  })
}

/** Names of all packages that dnf knows of, from its copies of the indexes. */
async function packageNames(source: DnfSource, folder: string): Promise<string[]> {
  const scratch = temporaryFor(`${folder}.names`)
  try {
    prepareScratch(scratch, source)
    const root = join(scratch, 'root')
    mkdirSync(root)
    const query = ['--quiet', '--cacheonly', 'repoquery', '--queryformat', '%{name}']
    const argv = dnfArgv(source, { scratch, cache: folder }, root, query)
    const said = await capture(argv, { cwd: '/', env: { HOME: scratch }, acceptFailure: true })
    return said.split('\n')
  } finally {
    discard(scratch)
  }
}
