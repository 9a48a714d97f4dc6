// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { fetchSmall } from '../../scripts/download.ts'
import { fingerprint, sha256 } from '../../scripts/digest.ts'
import { BuildError } from '../../scripts/errors.ts'
import { warn } from '../../scripts/log.ts'
import { capture } from '../../scripts/run.ts'
import { temporaryFor, discard, writeWhole } from '../../scripts/temporary.ts'
import type { Suite } from '../distro.ts'

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
  readonly cacheDir: string
  readonly refresh: 'daily' | 'always' | 'never'
  readonly nowMs: number
}

const DAY_MS = 24 * 60 * 60 * 1000

/**
 * The signed indexes of all suites, from the cache while it is fresh enough, else from the mirror.
 *
 * @throws BuildError E_SIGNATURE when an index is not signed by the keyring, E_NETWORK when the mirror
 *   cannot be reached and nothing is cached, E_INPUT when the mirror has no such suite
 */
export async function resolveIndex(request: IndexRequest): Promise<AptIndex> {
  const keyringDigest = sha256(readFileSync(request.keyring))
  const key = fingerprint({
    suites: request.suites.map(({ suite, url }) => ({ suite, url })),
    keyring: keyringDigest,
  })
  const file = join(request.cacheDir, 'index', `${key}.json`)
  const known = readKnown(file)
  if (known !== undefined && isFresh(known, request)) return known
  try {
    const index = await fetchIndex(request)
    mkdirSync(join(request.cacheDir, 'index'), { recursive: true })
    writeWhole(file, `${JSON.stringify(index, null, 2)}\n`)
    return index
  } catch (error) {
    const offline = error instanceof BuildError && error.code === 'E_NETWORK'
    if (known === undefined || !offline || request.refresh === 'always') throw error
    warn(
      `${error.message}; going on with the index of ${new Date(known.checkedAtMs).toISOString().slice(0, 10)}`,
    )
    return known
  }
}

function readKnown(file: string): AptIndex | undefined {
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as AptIndex) : undefined
}

function isFresh(index: AptIndex, { refresh, nowMs }: IndexRequest): boolean {
  if (refresh === 'never') return true
  return refresh === 'daily' && nowMs - index.checkedAtMs < DAY_MS && nowMs >= index.checkedAtMs
}

async function fetchIndex(request: IndexRequest): Promise<AptIndex> {
  const outcomes = await Promise.all(request.suites.map((suite) => fetchSuite(suite, request)))
  return {
    checkedAtMs: request.nowMs,
    suites: outcomes.filter((outcome): outcome is IndexedSuite => 'sha256' in outcome),
    skipped: outcomes.filter((outcome): outcome is SkippedSuite => 'why' in outcome),
  }
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
  const { text, signers } = await verified(answer.content, address, request)
  return { suite, url, sha256: sha256(answer.content), dateSeconds: dateOf(text, address), signers }
}

/** The signed text of a clear-signed index, and who signed it. */
async function verified(
  content: Buffer,
  address: string,
  { keyring, cacheDir }: IndexRequest,
): Promise<{ text: string; signers: readonly string[] }> {
  mkdirSync(cacheDir, { recursive: true })
  const signed = temporaryFor(join(cacheDir, `inrelease-${sha256(address).slice(0, 12)}`))
  const text = `${signed}.text`
  try {
    writeFileSync(signed, content)
    const status = await gpgvStatus([
      'gpgv',
      '--status-fd',
      '1',
      '--keyring',
      keyring,
      '--output',
      text,
      signed,
    ])
    const signers = [...status.matchAll(/^\[GNUPG:\] VALIDSIG (\S+)/gm)].map((match) => String(match[1]))
    // Several keys sign an index; one that we know is enough, one that does not fit is not.
    if (signers.length === 0 || /^\[GNUPG:\] BADSIG/m.test(status)) throw notSigned(address, keyring, status)
    return { text: readFileSync(text, 'utf8'), signers: signers.sort() }
  } finally {
    rmSync(text, { force: true })
    discard(signed)
  }
}

/** gpgv's status lines; a status other than 0 is told by them too. */
async function gpgvStatus(argv: readonly string[]): Promise<string> {
  return capture(argv, { acceptFailure: true })
}

function notSigned(address: string, keyring: string, status: string): BuildError {
  const words = /^\[GNUPG:\] (BADSIG|NO_PUBKEY|ERRSIG|EXPKEYSIG|REVKEYSIG) (\S+)/m.exec(status)
  const reasons: Readonly<Record<string, string>> = {
    BADSIG: 'its content does not match its signature: it was changed on the way or on the mirror',
    NO_PUBKEY: 'it is signed by a key that the keyring does not hold',
    ERRSIG: 'it is signed by a key that the keyring does not hold',
    EXPKEYSIG: 'it is signed by a key that has expired',
    REVKEYSIG: 'it is signed by a key that was revoked',
  }
  return new BuildError('E_SIGNATURE', `${address}: not signed by the archive's key`, {
    because: [
      words === null
        ? 'it carries no signature'
        : `${reasons[String(words[1])] ?? ''} (key ${String(words[2])})`,
      `keyring: ${keyring}`,
    ],
    hint: 'check REPO_URL; for a mirror of your own set REPO_KEYRING to the keyring that signs it',
  })
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
