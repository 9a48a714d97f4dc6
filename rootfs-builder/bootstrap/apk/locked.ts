// SPDX-License-Identifier: Apache-2.0
import { readFileSync, writeFileSync } from 'node:fs'

import { sha256 } from '../../../scripts/digest.ts'
import { BuildError } from '../../../scripts/errors.ts'
import { DOWNLOADS, inParallel, lockedFile } from '../../../scripts/package-lock/locked-file.ts'
import { cachedFile, keepFile } from '../../../scripts/kept-file.ts'
import type { LockPlaces } from '../../../scripts/package-lock/locked-file.ts'
import { disagreeing, otherSigners, vendoredIndexes } from '../../../scripts/package-lock/locked-index.ts'
import type { LockedGuest, LockedIndex, LockedPackage } from '../../../scripts/package-lock/package-lock.ts'
import { unfit } from '../locked-guest.ts'
import type { LockedRequest, Resolution } from '../plan.ts'
import { parseDependency } from './dependency.ts'
import { repositoryLine } from './extra.ts'
import { openApkIndex, parseIndex } from './index.ts'
import type { ApkIndex, ApkPackage, Repository } from './index.ts'
import { fetchPackage, openPackage, packageUrl } from './package.ts'
import type { LockedApk } from './package-cache.ts'
import { resolvePackages } from './resolve.ts'
import type { Keys } from './signature.ts'

/** An index whose packages were chosen from. */
export type UsedIndex = Pick<ApkIndex, 'url' | 'sha256' | 'signer'> & { readonly repository: Repository }

/** Keep an index as it was served, for a lock that is made of it. */
export async function keepIndex({ content, sha256: digest }: ApkIndex, cacheDir: string): Promise<void> {
  await keep(cacheDir, digest, content)
}

function keep(cacheDir: string, digest: string, content: Buffer): Promise<string> {
  return keepFile(cacheDir, digest, (target) => {
    writeFileSync(target, content)
    return Promise.resolve()
  })
}

/**
 * What a lock says of chosen packages.
 *
 * An index names no digest of a whole file, so each is fetched and verified, but those that an older lock
 * has with the very same words of the index.
 *
 * @throws BuildError as fetchPackage and openPackage do
 */
export async function resolveApk(
  chosen: readonly ApkPackage[],
  indexes: readonly UsedIndex[],
  of: { readonly keys: Keys; readonly cacheDir: string; readonly known: readonly LockedPackage[] },
): Promise<Resolution> {
  const packages = await inParallel(chosen, DOWNLOADS, async (item): Promise<LockedPackage> => {
    const url = packageUrl(item)
    const known = of.known.find((one) => one.url === url && isSame(one.record, item.fields))
    if (known !== undefined) return known
    const file = await fetchPackage(item)
    const { signer } = await openPackage(item, file, of.keys)
    const digest = sha256(file)
    await keep(of.cacheDir, digest, file)
    return {
      ...{ name: item.name, version: item.version, arch: item.arch, index: repositoryLine(item.repository) },
      ...{ url, sizeBytes: file.length, sha256: digest, signer, record: item.fields },
    }
  })
  return { indexes: indexes.map((index) => lockedIndex(index, of.cacheDir)), packages }
}

function isSame(a: readonly string[] | undefined, b: readonly string[]): boolean {
  return a?.join('\n') === b.join('\n')
}

function lockedIndex({ url, sha256: digest, signer, repository }: UsedIndex, cacheDir: string): LockedIndex {
  const file = cachedFile(cacheDir, digest)
  if (file === undefined) throw new TypeError(`${url}: was not kept`)
  const sizeBytes = readFileSync(file).length
  return {
    ...{ name: repositoryLine(repository), url, sizeBytes, sha256: digest },
    ...{ archive: repository.url, signers: [signer] },
  }
}

/** The packages of a lock in the order they are installed in, with their rows. */
export interface LockedChoice {
  readonly chosen: readonly ApkPackage[]
  readonly files: ReadonlyMap<ApkPackage, LockedApk>
}

/**
 * Choose from the packages of the lock alone, which must give all of them.
 *
 * @throws BuildError E_INPUT when the lock's rows do not fit to each other
 */
export function lockedChoice({ guest, places }: LockedRequest, world: readonly string[]): LockedChoice {
  const repositories = new Map(guest.indexes.map((index) => [index.name, repositoryOf(index)]))
  const rows = new Map<ApkPackage, LockedPackage>()
  for (const row of guest.packages) {
    const repository = repositories.get(row.index)
    const [item] = repository === undefined ? [] : parseIndex((row.record ?? []).join('\n'), repository)
    if (item === undefined || !isRowOf(row, item)) {
      throw unfit(places, [`${row.name} ${row.version}: its record is of another package`])
    }
    rows.set(item, row)
  }
  const chosen = choose([...rows.keys()], world, places)
  const superfluous = [...rows.keys()].filter((item) => !chosen.includes(item))
  if (superfluous.length > 0) {
    throw unfit(places, [`nothing asks for ${superfluous.map(({ name }) => name).join(', ')}`])
  }
  const files = new Map([...rows].map(([item, row]) => [item, lockedApk(row, places)]))
  return { chosen, files }
}

function choose(all: readonly ApkPackage[], world: readonly string[], places: LockPlaces): ApkPackage[] {
  try {
    return resolvePackages(world.map(parseDependency), all)
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
    throw unfit(places, [error.message], error)
  }
}

function isRowOf(row: LockedPackage, item: ApkPackage): boolean {
  const { name, version, arch, sizeBytes } = item
  return row.name === name && row.version === version && row.arch === arch && row.sizeBytes === sizeBytes
}

function lockedApk(row: LockedPackage, places: LockPlaces): LockedApk {
  const title = `${row.name} ${row.version}`
  return {
    ...{ sha256: row.sha256, signer: row.signer ?? '', lockFile: places.lockFile },
    read: async () => readFileSync(await lockedFile({ ...row, title }, places)),
  }
}

function repositoryOf({ name, archive }: LockedIndex): Repository {
  const tag = /^@(\S+) /.exec(name)?.[1]
  return { url: archive, ...(tag === undefined ? {} : { tag }) }
}

/**
 * Check the signed indexes in VENDOR_DIR, as checkAptIndexes does.
 *
 * @throws BuildError E_SIGNATURE for another signer, E_DIGEST where lock and index disagree
 */
export async function checkApkIndexes(guest: LockedGuest, keys: Keys, places: LockPlaces): Promise<void> {
  for (const { index, file } of await vendoredIndexes(guest.indexes, places)) {
    const { url } = index
    const opened = await openApkIndex(readFileSync(file), { url, repository: repositoryOf(index), keys })
    if (!index.signers.includes(opened.signer)) throw otherSigners(index, [opened.signer], places)
    const named = new Set(opened.packages.map(({ fields }) => fields.join('\n')))
    const wrong = guest.packages
      .filter((row) => row.index === index.name && !named.has((row.record ?? []).join('\n')))
      .map(({ name, version }) => `${name} ${version}`)
    if (wrong.length > 0) throw disagreeing(places, index, wrong)
  }
}
