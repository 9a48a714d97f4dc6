// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { fetchSmall } from './download.ts'
import { fingerprint, sha256 } from './digest.ts'
import { BuildError } from './errors.ts'
import { remembered } from './mirror-memory.ts'
import { readSigned } from './signed-text.ts'
import { writeWhole } from './temporary.ts'

/** One suite of an apt archive. */
export interface Suite {
  readonly suite: string
  readonly url: string
  /** A mirror may lack it: used when it can be reached, and named in the manifest. */
  readonly optional?: true
}

/** A suite's signed index as it was when it was last looked at. */
export interface IndexedSuite {
  readonly suite: string
  readonly url: string
  readonly sha256: string
  /** Date inside the signed index. Unit: seconds since 1970. */
  readonly dateSeconds: number
  /** Full fingerprints of the keys whose signatures hold. */
  readonly signers: readonly string[]
}

export interface SkippedSuite {
  readonly suite: string
  readonly url: string
  readonly why: string
}

export interface AptIndex {
  readonly checkedAtMs: number
  readonly suites: readonly IndexedSuite[]
  readonly skipped: readonly SkippedSuite[]
}

export interface IndexRequest {
  readonly suites: readonly Suite[]
  readonly keyring: string
  /** Debian's name of an architecture: an optional suite without it is skipped. */
  readonly debianArch?: string
  readonly cacheDir: string
  readonly refresh: 'daily' | 'always' | 'never'
  readonly nowMs: number
}

/**
 * The signed indexes of all suites, from the cache while it is fresh enough, else from the mirror.
 *
 * @throws BuildError E_SIGNATURE when an index is not signed by the keyring, E_NETWORK when the mirror
 *   cannot be reached and nothing is cached, E_INPUT when the mirror has no such suite, or the suite has
 *   nothing for the architecture
 */
export async function resolveIndex(request: IndexRequest): Promise<AptIndex> {
  const keyringDigest = sha256(readFileSync(request.keyring))
  const key = fingerprint({
    suites: request.suites.map(({ suite, url }) => ({ suite, url })),
    keyring: keyringDigest,
    ...(request.debianArch === undefined ? {} : { debianArch: request.debianArch }),
  })
  return remembered({ ...request, key }, () => fetchIndex(request))
}

async function fetchIndex(request: IndexRequest): Promise<AptIndex> {
  const outcomes = await Promise.all(request.suites.map((suite) => fetchSuite(suite, request)))
  return {
    checkedAtMs: request.nowMs,
    suites: outcomes.filter((outcome): outcome is IndexedSuite => 'sha256' in outcome),
    skipped: outcomes.filter((outcome): outcome is SkippedSuite => 'why' in outcome),
  }
}

/** Where the signed text of an index is kept, by the digest of the index. */
export function indexTextFile(cacheDir: string, digest: string): string {
  return join(cacheDir, 'index', `${digest}.release`)
}

/** Where the index is kept as the mirror served it, with its signature. */
export function signedIndexFile(cacheDir: string, digest: string): string {
  return join(cacheDir, 'index', `${digest}.InRelease`)
}

async function fetchSuite(row: Suite, request: IndexRequest): Promise<IndexedSuite | SkippedSuite> {
  const { suite, url } = row
  const address = `${url}/dists/${suite}/InRelease`
  let answer
  try {
    answer = await fetchSmall(address)
  } catch (error) {
    if (row.optional !== true || !(error instanceof BuildError)) throw error
    return { suite, url, why: error.because[0] ?? error.message }
  }
  if (!answer.found) {
    if (row.optional === true) return { suite, url, why: `the mirror answers ${String(answer.status)}` }
    throw new BuildError(
      'E_INPUT',
      `${address}: the mirror has no such suite (status ${String(answer.status)})`,
      {
        hint: 'check OS_VERSION and REPO_URL',
      },
    )
  }
  const { text, signers } = await readSigned(answer.content, {
    address,
    keyring: request.keyring,
    scratch: join(request.cacheDir, `inrelease-${sha256(address).slice(0, 12)}`),
    hint: 'check REPO_URL; for a mirror of your own set REPO_KEYRING to the keyring that signs it',
  })
  const dateSeconds = dateOf(text, address)
  const arch = request.debianArch ?? ''
  if (!isFor(text, arch)) {
    const why = `it has nothing for ${arch}`
    if (row.optional === true) return { suite, url, why }
    throw new BuildError('E_INPUT', `${address}: ${why}`, { hint: 'check ARCH, OS_VERSION and REPO_URL' })
  }
  const digest = sha256(answer.content)
  mkdirSync(join(request.cacheDir, 'index'), { recursive: true })
  writeWhole(indexTextFile(request.cacheDir, digest), text)
  writeWhole(signedIndexFile(request.cacheDir, digest), answer.content)
  return { suite, url, sha256: digest, dateSeconds, signers }
}

/** False for a suite that names its architectures and not this one; a small archive may name none. */
function isFor(text: string, debianArch: string): boolean {
  const named = /^Architectures: *(.+)$/m.exec(text)?.[1]?.split(/\s+/) ?? []
  return debianArch === '' || named.length === 0 || named.includes(debianArch)
}

function dateOf(text: string, address: string): number {
  const date = Date.parse(/^Date: (.+)$/m.exec(text)?.[1] ?? '')
  if (Number.isNaN(date)) throw new BuildError('E_INPUT', `${address}: has no valid Date`)
  const validUntil = /^Valid-Until: (.+)$/m.exec(text)?.[1]
  if (validUntil !== undefined && Date.parse(validUntil) < Date.now()) {
    throw new BuildError('E_SIGNATURE', `${address}: expired on ${validUntil}`, {
      because: ['an old index may hide newer, safer packages'],
      hint: 'use a mirror that is up to date (REPO_URL), or check the clock of this machine with: date',
    })
  }
  return Math.floor(date / 1000)
}
