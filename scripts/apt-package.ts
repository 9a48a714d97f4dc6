// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { indexTextFile, resolveIndex } from './apt-index.ts'
import type { AptIndex, IndexRequest, IndexedSuite } from './apt-index.ts'
import { fingerprint } from './digest.ts'
import { BuildError } from './errors.ts'
import { fetchFile } from './fetch-file.ts'
import { capture, run } from './run.ts'
import { discard, temporaryFor, writeWhole } from './temporary.ts'

/** One package as a signed index of an archive names it. */
export interface AptPackage {
  readonly name: string
  readonly version: string
  readonly url: string
  readonly sha256: string
  /** Field `Depends`, as it is written. */
  readonly depends: string
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
  const path = `${request.component}/binary-${request.debianArch}/Packages.xz`
  const section = text.slice(text.indexOf('\nSHA256:'))
  const digest = new RegExp(`^ ([0-9a-f]{64}) +\\d+ ${path.replaceAll('.', '\\.')}$`, 'm').exec(section)?.[1]
  if (digest === undefined) return []
  const list = join(request.cacheDir, 'index', `${digest}.Packages.xz`)
  const url = `${suite.url}/dists/${suite.suite}`
  if (!existsSync(list)) {
    await fetchFile({
      url: `${url}/${text.includes('\nAcquire-By-Hash: yes') ? byHash(path, digest) : path}`,
      target: list,
      digest,
      digestOrigin: `the signed index of ${suite.suite}`,
      hint: 'try again with REFRESH=always, or use another mirror with REPO_URL',
    })
  }
  return readList(list, suite.url, request.name)
}

/** A name that an update of the mirror does not change. Source: wiki.debian.org/DebianRepository/Format. */
function byHash(path: string, digest: string): string {
  return path.replace(/[^/]+$/, `by-hash/SHA256/${digest}`)
}

/** The signed text of a suite's index; asked for again where only its digest was kept. */
async function signedText(suite: IndexedSuite, request: PackageRequest): Promise<string> {
  const file = indexTextFile(request.cacheDir, suite.sha256)
  if (!existsSync(file)) await resolveIndex({ ...request, refresh: 'always' })
  if (existsSync(file)) return readFileSync(file, 'utf8')
  throw new BuildError('E_NETWORK', `${suite.url}: the index of ${suite.suite} changed just now`, {
    hint: 'run the same command again, with REFRESH=always',
  })
}

async function readList(list: string, archive: string, name: string): Promise<AptPackage[]> {
  const plain = temporaryFor(list.replace(/\.xz$/, ''))
  try {
    await run(['xz', '--decompress', '--stdout', list], { stdoutFile: plain })
    const paragraphs = readFileSync(plain, 'utf8').split('\n\n')
    return paragraphs
      .filter((text) => text.startsWith(`Package: ${name}\n`))
      .map((text) => parse(text, archive))
  } finally {
    discard(plain)
  }
}

function parse(paragraph: string, archive: string): AptPackage {
  const field = (name: string): string => new RegExp(`^${name}: (.*)$`, 'm').exec(paragraph)?.[1] ?? ''
  return {
    name: field('Package'),
    version: field('Version'),
    url: `${archive}/${field('Filename')}`,
    sha256: field('SHA256'),
    depends: field('Depends'),
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
