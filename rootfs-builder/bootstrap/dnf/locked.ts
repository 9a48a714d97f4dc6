// SPDX-License-Identifier: Apache-2.0
import {
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, join, relative } from 'node:path'

import { sha256, sha256File } from '../../../scripts/digest.ts'
import { fetchSmall } from '../../../scripts/download.ts'
import { BuildError } from '../../../scripts/errors.ts'
import { PATH_BELOW } from '../../../scripts/package-lock/lock-check.ts'
import { DOWNLOADS, inParallel, lockedFile, lockedFiles } from '../../../scripts/package-lock/locked-file.ts'
import { keepFile } from '../../../scripts/kept-file.ts'
import { disagreeing, otherSigners, vendoredIndexes } from '../../../scripts/package-lock/locked-index.ts'
import { PRIVATE_NAMESPACE } from '../../../scripts/namespace.ts'
import type { LockedIndex, LockedPackage } from '../../../scripts/package-lock/package-lock.ts'
import { capture, requireTools, run } from '../../../scripts/run.ts'
import { discard, temporaryFor } from '../../../scripts/temporary.ts'
import type { LockedRequest, Resolution, ResolveOptions } from '../plan.ts'
import type { DnfTree } from './bootstrap.ts'
import { dnfArgv } from './config.ts'
import type { DnfSource, RpmRepository } from './config.ts'
import { detachedSigners } from './detached.ts'
import { explainInstall, prepareScratch, repositoryFolder, withDnfCache } from './metadata.ts'
import { hasDigest, primaryOf, readPrimary } from './primary.ts'
import type { ListedRpm } from './primary.ts'

/** Folder with the private repositories, in the scratch folder of a build. */
const REPOSITORIES = 'repositories'

/** What rpm tells of a file; the key is that of the signature, whichever kind it is. */
const FORMAT =
  '%{NAME}\\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\\t%{ARCH}\\t%|RSAHEADER?{%{RSAHEADER:pgpsig}}:{%|DSAHEADER?{%{DSAHEADER:pgpsig}}|}|\\n'

interface RpmFile {
  readonly name: string
  readonly version: string
  readonly arch: string
  /** Id of the key that signed it. */
  readonly signer?: string
}

/**
 * What rpm tells of files below a folder, in the same order.
 *
 * @param paths below the folder: rpm takes a quote or a space in a path for its own, and those of the
 *   folder are the user's
 */
async function readRpms(folder: string, paths: readonly string[]): Promise<RpmFile[]> {
  if (paths.length === 0) return []
  const argv = ['rpm', '--query', '--package', '--nosignature', '--queryformat', FORMAT]
  const said = await capture([...argv, ...paths.map((path) => `./${path}`)], { cwd: folder })
  return said
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [name = '', version = '', arch = '', signature = ''] = line.split('\t')
      const signer = /Key ID ([0-9a-f]+)/.exec(signature)?.[1]
      return { name, version: version.replace(/^0:/, ''), arch, ...(signer === undefined ? {} : { signer }) }
    })
}

/**
 * All packages that dnf would install by a plan, fetched and verified, without installing any.
 *
 * @throws BuildError as the bootstrap
 */
export async function resolveDnf(tree: DnfTree, { logFile }: ResolveOptions): Promise<Resolution> {
  const { source, cacheDir } = tree
  if (source.repositories === 'host') throw new TypeError('repositories of this host are not locked')
  const { repositories } = source
  return withDnfCache(source, cacheDir, async (folder) => {
    const scratch = temporaryFor(`${folder}.resolve`)
    try {
      prepareScratch(scratch, source)
      const [root, files] = [join(scratch, 'root'), join(scratch, 'files')]
      for (const place of [root, files]) mkdirSync(place)
      const command = ['install', '--downloadonly', `--downloaddir=${files}`, ...tree.packages]
      const argv = dnfArgv(source, { scratch, cache: folder }, root, command)
      try {
        await run([...PRIVATE_NAMESPACE, ...argv], { logFile, cwd: '/', env: { HOME: scratch } })
      } catch (error) {
        throw await explainInstall(error, source, folder, logFile)
      }
      const used = repositories.filter(({ id }) => tree.indexes.some((index) => index.id === id))
      const listed: Listed[] = []
      for (const one of used) listed.push(await listedOf(one, tree, folder))
      const names = readdirSync(files).sort()
      const rpms = await readRpms(files, names)
      const packages = await inParallel([...rpms.entries()], DOWNLOADS, ([number, rpm]) =>
        lockedRpm(rpm, join(files, names[number] ?? ''), listed, cacheDir),
      )
      return { indexes: listed.map(({ index }) => index), packages }
    } finally {
      discard(scratch)
    }
  })
}

interface Listed {
  readonly index: LockedIndex
  readonly packages: ReadonlyMap<string, ListedRpm>
}

/** The index of a repository as a lock names it, from dnf's verified copy, and its packages by their keys. */
async function listedOf(repository: RpmRepository, tree: DnfTree, folder: string): Promise<Listed> {
  const { id, url, signs } = repository
  const index = tree.indexes.find((one) => one.id === id)
  const data = repositoryFolder(folder, id) ?? ''
  const repomd = join(data, 'repodata/repomd.xml')
  const content = existsSync(repomd) ? readFileSync(repomd) : Buffer.alloc(0)
  const primary = primaryOf(content.toString())
  // What is not signed may name any file of this host, where dnf has read another list.
  if (primary !== undefined && !PATH_BELOW.test(primary.path)) throw otherList(url, primary.path)
  const file = join(data, primary?.path ?? '')
  if (index === undefined || primary === undefined || !existsSync(file) || sha256(content) !== index.sha256) {
    throw new BuildError('E_NETWORK', `${url}: the index of ${id} changed just now`, {
      hint: 'run the same command again',
    })
  }
  if (!(await hasDigest(file, primary.digest))) throw otherList(url, primary.path)
  const keep = async (bytes: Buffer, path: string): Promise<NonNullable<LockedIndex['lists']>[number]> => {
    const digest = sha256(bytes)
    await keepFile(tree.cacheDir, digest, (target) => {
      writeFileSync(target, bytes)
      return Promise.resolve()
    })
    return { path, url: `${url}/${path}`, sizeBytes: bytes.length, sha256: digest }
  }
  await keep(content, 'repodata/repomd.xml')
  const lists = [await keep(readFileSync(file), primary.path)]
  let signers: readonly string[] = []
  if (signs !== 'packages') {
    const answer = await fetchSmall(`${url}/${SIGNATURE}`)
    if (!answer.found) throw new BuildError('E_SIGNATURE', `${url}/${SIGNATURE}: the mirror has no signature`)
    lists.push(await keep(answer.content, SIGNATURE))
    signers = await detachedSigners(content, answer.content, tree.source.keys, {
      address: `${url}/repodata/repomd.xml`,
      scratch: join(tree.cacheDir, 'index', `repomd-${id}`),
    })
  }
  return {
    index: {
      ...{ name: id, url: `${url}/repodata/repomd.xml`, sizeBytes: content.length, sha256: index.sha256 },
      ...{ archive: url, dateSeconds: index.dateSeconds, signers, lists },
    },
    packages: new Map(
      (await readPrimary({ file, path: primary.path }, tree.cacheDir)).map((item) => [item.key, item]),
    ),
  }
}

function otherList(url: string, path: string): BuildError {
  return new BuildError('E_DIGEST', `${url}: has not the list of packages that its index names`, {
    because: [path],
    hint: 'try again later or use another mirror with REPO_URL',
  })
}

/** Path of the signature of an index, where that is signed. */
const SIGNATURE = 'repodata/repomd.xml.asc'

async function lockedRpm(
  rpm: RpmFile,
  file: string,
  listed: readonly Listed[],
  cacheDir: string,
): Promise<LockedPackage> {
  const key = `${rpm.name} ${rpm.version} ${rpm.arch}`
  for (const { index, packages } of listed) {
    const item = packages.get(key)
    if (item === undefined || !(await hasDigest(file, item.digest))) continue
    const digest = sha256File(file)
    await keepFile(cacheDir, digest, (target) => {
      copyFileSync(file, target, constants.COPYFILE_FICLONE)
      return Promise.resolve()
    })
    return {
      ...{ name: rpm.name, version: rpm.version, arch: rpm.arch, index: index.name },
      ...{ url: encodeURI(`${index.archive}/${item.path}`), sizeBytes: statSync(file).size, sha256: digest },
      ...(rpm.signer === undefined ? {} : { signer: rpm.signer }),
    }
  }
  throw new BuildError('E_SIGNATURE', `${key}: no index names the file that dnf fetched`, {
    hint: 'run the same command again',
  })
}

/** The distro's repositories as the folders that makeRepositories fills. */
export function privateSource(source: DnfSource, scratch: string): DnfSource {
  if (source.repositories === 'host') return source
  const repositories = source.repositories.map((one) => ({
    ...{ ...one, url: `file://${join(scratch, REPOSITORIES, one.id)}` },
    isPrivate: true as const,
  }))
  return { ...source, repositories }
}

/**
 * Make repositories of exactly the packages of a lock, each verified. dnf checks the signatures of the
 * packages in them, as it does with the distro's own.
 */
export async function makeRepositories({ guest, places }: LockedRequest, scratch: string): Promise<void> {
  requireTools(['createrepo_c', 'rpm'])
  const titled = guest.packages.map((item) => ({ ...item, title: `${item.name} ${item.version}` }))
  const files = await lockedFiles(titled, places)
  const { cacheDir } = places
  const rpms = await readRpms(
    cacheDir,
    files.map((file) => relative(cacheDir, file)),
  )
  for (const { name } of guest.indexes) mkdirSync(join(scratch, REPOSITORIES, name), { recursive: true })
  for (const [number, item] of guest.packages.entries()) {
    checkRpm(item, rpms[number], basename(places.lockFile))
    // dnf takes packages in the order of the index, which createrepo_c makes that of these names.
    const name = `${item.name}-${item.version.replace(/^\d+:/, '')}.${item.arch}.rpm`
    const target = join(scratch, REPOSITORIES, item.index, name)
    copyFileSync(files[number] ?? '', target, constants.COPYFILE_FICLONE)
  }
  for (const { name } of guest.indexes) {
    await capture(['createrepo_c', '--quiet', '--no-database', join(scratch, REPOSITORIES, name)])
  }
}

function checkRpm(item: LockedPackage, rpm: RpmFile | undefined, lockFile: string): void {
  const words = (one: RpmFile | undefined): string =>
    [one?.name, one?.version, one?.arch, one?.signer ?? 'not signed'].join(' ')
  if (words(item) === words(rpm)) return
  const isOther = item.name !== rpm?.name || item.version !== rpm.version || item.arch !== rpm.arch
  throw new BuildError(
    isOther ? 'E_INPUT' : 'E_SIGNATURE',
    isOther
      ? `${lockFile}: ${item.name} ${item.version} ${item.arch} is another package`
      : `${item.name} ${item.version}: signed by another key than ${lockFile} names`,
    {
      because: [`locked: ${words(item)}`, `found:  ${words(rpm)}`],
      hint: `git checkout -- ${lockFile}    or make lock-update`,
    },
  )
}

/**
 * Check the indexes in VENDOR_DIR, as checkAptIndexes does: signatures where the index has one, and that they
 * name the packages of the lock with the same digests.
 *
 * @throws BuildError E_SIGNATURE for another signer, E_DIGEST where lock and index disagree
 */
export async function checkRpmIndexes(
  source: DnfSource,
  { guest, places }: LockedRequest,
  cacheDir: string,
): Promise<void> {
  const repositories = source.repositories === 'host' ? [] : source.repositories
  for (const { index, file, lists } of await vendoredIndexes(guest.indexes, places)) {
    const content = readFileSync(file)
    if (repositories.find(({ id }) => id === index.name)?.signs !== 'packages') {
      const signature = lists.find(({ path }) => path === SIGNATURE)
      if (signature === undefined) throw disagreeing(places, index, [`${SIGNATURE}: is not in the lock`])
      const signers = await detachedSigners(content, readFileSync(signature.file), source.keys, {
        address: index.url,
        scratch: join(cacheDir, 'index', `vendored-${index.sha256.slice(0, 12)}`),
      })
      if (!signers.some((key) => index.signers.includes(key))) throw otherSigners(index, signers, places)
    }
    const primary = primaryOf(content.toString())
    const list = lists.find(({ path }) => path === primary?.path)
    if (primary === undefined || list === undefined || !(await hasDigest(list.file, primary.digest))) {
      throw disagreeing(places, index, [`${list?.path ?? 'primary.xml'}: the index names another`])
    }
    const named = new Map((await readPrimary(list, cacheDir)).map((item) => [item.key, item]))
    const own = guest.packages.filter((item) => item.index === index.name)
    const wrong = await inParallel(own, DOWNLOADS, async (item) => {
      const title = `${item.name} ${item.version}`
      const found = named.get(`${title} ${item.arch}`)
      if (found === undefined) return [title]
      if (found.digest.type === 'sha256') return found.digest.hex === item.sha256 ? [] : [title]
      return (await hasDigest(await lockedFile({ ...item, title }, places), found.digest)) ? [] : [title]
    })
    if (wrong.flat().length > 0) throw disagreeing(places, index, wrong.flat())
  }
}
