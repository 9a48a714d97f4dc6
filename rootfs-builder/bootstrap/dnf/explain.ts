// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../../../scripts/errors.ts'
import type { ErrorCode } from '../../../scripts/errors.ts'
import { fullError } from '../../../scripts/command-error.ts'
import { hostArch } from '../../../scripts/settings.ts'
import { cannotRun } from '../workplace.ts'
import type { DnfSource } from './config.ts'

/** Most lines of dnf that an error shows. */
const TELLING_LINES = 6

/** What a failure is called, by what dnf and rpm said. The first that fits is the cause of the rest. */
const FAILURES: readonly {
  readonly said: RegExp
  readonly code: ErrorCode
  readonly message: string
  readonly hint: string
}[] = [
  {
    said: /GPG check FAILED|is not signed|repomd\.xml GPG signature|Bad GPG signature|Public key for .* is not installed|key import failed|Signing key not found|Bad PGP signature|Retrieving key .*failed/i,
    code: 'E_SIGNATURE',
    message: "a package or index is not signed by the repository's key",
    hint: 'check REPO_URL; for a mirror of your own set REPO_KEYRING to the key that signs it',
  },
  {
    said: /[Cc]hecksum (error|doesn't match)|digest.*(BAD|NOT OK)|payload.*mismatch|Downloading successful, but checksum/,
    code: 'E_SIGNATURE',
    message: 'the mirror served a package or index that is not the one its index names',
    hint: 'try again later or use another mirror with REPO_URL',
  },
  {
    said: /Error:\s+(Problem|Transaction test error)|^Problem|conflicting requests|nothing provides/m,
    code: 'E_INPUT',
    message: 'the packages do not fit together',
    hint: 'check EXTRA_PKGS, OS_VERSION and REPO_URL',
  },
  {
    said: /Failed to download|Cannot download|Curl error|Status code: \d+|No more mirrors|All mirrors were/,
    code: 'E_NETWORK',
    message: 'packages cannot be downloaded',
    hint: 'check the network, REPO_URL, OS_VERSION and http_proxy, then run the same command again',
  },
]

/** Lines that tell a cause, not its consequences. */
const TELLING =
  /^\s*(Error:.*\S|Problem|\[FAILED\]|- |Failed|Cannot|Curl error|Public key|Package .*not signed|file .*conflicts|.*GPG|.*Status code|.*[Cc]hecksum)/

/** What dnf, its curl and rpm say of a full disk; other errors follow from it. */
const FULL = /^.*(No space left on device|Curl error \(23\)|needs \S+ more space on the).*$/m

/** Names of packages that no repository has. */
export function missingPackages(log: string): string[] {
  return [...new Set([...log.matchAll(/^No match for argument: (\S+)/gm)].map((match) => String(match[1])))]
}

/** Packages whose scripts failed, which rpm takes for a warning. */
export function failedScripts(log: string): string[] {
  return [...new Set([...log.matchAll(/%(\w+\(\S+\)) scriptlet failed/g)].map((match) => String(match[1])))]
}

/**
 * Name what went wrong in the words of the user's settings.
 *
 * @param log what dnf said
 */
export function explainDnf(error: unknown, source: DnfSource, log: string): unknown {
  if (!(error instanceof BuildError) || error.code !== 'E_COMMAND') return error
  const full = FULL.exec(log)?.[0]
  if (full !== undefined) return fullError(full.replace(/^[\s-]+/, '').slice(0, 200), error)
  const telling = [...new Set(log.split('\n').filter((line) => TELLING.test(line)))]
    .slice(0, TELLING_LINES)
    .map((line) => line.trim().slice(0, 200))
  const because = telling.length === 0 ? error.because : telling
  if (source.arch !== hostArch() && /Exec format error/.test(log))
    return cannotRun(source.arch, because, error)
  const failure = FAILURES.find(({ said }) => said.test(log))
  if (failure === undefined) return error
  return new BuildError(failure.code, failure.message, { because, hint: failure.hint, cause: error })
}
