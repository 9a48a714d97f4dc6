// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { indexTextFile, resolveIndex } from './apt-index.ts'
import type { AptIndex, IndexRequest, IndexedSuite } from './apt-index.ts'
import { fieldOf, fetchPackageLists, readPackageList } from './apt-lists.ts'
import { fingerprint } from './digest.ts'
import { BuildError } from './errors.ts'
import { capture } from './run.ts'
import { writeWhole } from './temporary.ts'

/** One package as a signed index of an archive names it. */
export interface AptPackage {
  readonly name: string
  readonly version: string
  readonly url: string
  readonly sizeBytes: number
  readonly sha256: string
  /** Field `Depends`, as it is written. */
  readonly depends: string
  /** Suite whose index names it. */
  readonly suite: string
}

export interface PackageRequest extends IndexRequest {
  /** Debian's name of an architecture; packages for all are in each one's index. */
  readonly debianArch: string
  readonly component: string
  readonly name: string
}

/**
 * The newest version of a package in the suites of an archive.
 *
 * Every step is checked: the index by its signature, the list of packages by the digest in the
 * index. What was found is remembered as long as the indexes are the same.
 *
 * @throws BuildError E_INPUT when no suite has it; else as resolveIndex and fetchFile
 */
export async function findPackage(request: PackageRequest): Promise<AptPackage> {
  const index = await resolveIndex(request)
  const key = fingerprint({
    suites: index.suites.map(({ url, suite, sha256 }) => ({ url, suite, sha256 })),
    name: request.name,
    arch: request.debianArch,
    component: request.component,
    // Another one when more is remembered of a package.
    layout: 3,
  })
  const file = join(request.cacheDir, 'index', `${key}.package.json`)
  if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as AptPackage
  const found = (await Promise.all(index.suites.map((suite) => inSuite(suite, request)))).flat()
  const newest = await newestOf(found)
  if (newest === undefined) throw noPackage(request, index)
  writeWhole(file, `${JSON.stringify(newest, null, 2)}\n`)
  return newest
}

async function inSuite(suite: IndexedSuite, request: PackageRequest): Promise<AptPackage[]> {
  const text = await signedText(suite, request)
  const lists = await fetchPackageLists(suite, text, { ...request, components: [request.component] })
  const found: AptPackage[] = []
  for (const list of lists) {
    const paragraphs = await readPackageList(list, request.cacheDir)
    const named = paragraphs.filter((paragraph) => paragraph.startsWith(`Package: ${request.name}\n`))
    found.push(...named.map((paragraph) => parse(paragraph, suite)))
  }
  return found
}

/** The signed text of a suite's index; asked for again where only its digest was kept. */
export async function signedText(suite: IndexedSuite, request: IndexRequest): Promise<string> {
  const file = indexTextFile(request.cacheDir, suite.sha256)
  if (!existsSync(file)) await resolveIndex({ ...request, refresh: 'always' })
  if (existsSync(file)) return readFileSync(file, 'utf8')
  throw new BuildError('E_NETWORK', `${suite.url}: the index of ${suite.suite} changed just now`, {
    hint: 'run the same command again, with REFRESH=always',
  })
}

function parse(paragraph: string, { suite, url }: IndexedSuite): AptPackage {
  return {
    name: fieldOf(paragraph, 'Package'),
    version: fieldOf(paragraph, 'Version'),
    url: `${url}/${fieldOf(paragraph, 'Filename')}`,
    sizeBytes: Number(fieldOf(paragraph, 'Size')),
    sha256: fieldOf(paragraph, 'SHA256'),
    depends: fieldOf(paragraph, 'Depends'),
    suite,
  }
}

async function newestOf(packages: readonly AptPackage[]): Promise<AptPackage | undefined> {
  let newest: AptPackage | undefined
  for (const candidate of packages) {
    if (newest === undefined || (await isNewer(candidate.version, newest.version))) newest = candidate
  }
  return newest
}

/** Debian's own order of versions. Source: dpkg(1). */
async function isNewer(version: string, than: string): Promise<boolean> {
  if (version === than) return false
  const test = 'if dpkg --compare-versions "$1" gt "$2"; then echo yes; else echo no; fi'
  return (await capture(['sh', '-c', test, 'sh', version, than])) === 'yes'
}

function noPackage({ name, debianArch }: PackageRequest, index: AptIndex): BuildError {
  return new BuildError('E_INPUT', `no package ${name} for ${debianArch} in the archive`, {
    because: index.suites.map(({ url, suite }) => `looked in ${url} ${suite}`),
    hint: 'check KERNEL_VERSION, OS_VERSION and REPO_URL',
  })
}
