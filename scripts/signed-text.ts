// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

import { BuildError } from './errors.ts'
import { capture, requireTools } from './run.ts'
import { discard, temporaryFor } from './temporary.ts'

export interface SignedRequest {
  /** Where the text comes from, for messages. */
  readonly address: string
  /** OpenPGP keyring that must have signed it. */
  readonly keyring: string
  /** Path beside which gpgv's files are written for the moment. */
  readonly scratch: string
  /** What the user does when the signature does not hold. */
  readonly hint: string
}

/**
 * The signed part of a clear-signed text, and the full fingerprints of the keys whose signatures hold.
 *
 * @throws BuildError E_SIGNATURE when none holds, or one is bad
 */
export async function readSigned(
  content: Buffer,
  request: SignedRequest,
): Promise<{ text: string; signers: readonly string[] }> {
  requireTools(['gpgv'])
  mkdirSync(dirname(request.scratch), { recursive: true })
  const signed = temporaryFor(request.scratch)
  const textFile = temporaryFor(`${request.scratch}.text`)
  try {
    writeFileSync(signed, content)
    const status = await capture(
      ['gpgv', '--status-fd', '1', '--keyring', request.keyring, '--output', textFile, signed],
      // A status other than 0 is told by the lines too.
      { acceptFailure: true },
    )
    const signers = [...status.matchAll(/^\[GNUPG:\] VALIDSIG (\S+)/gm)].map((match) => String(match[1]))
    // Several keys sign an index; one that we know is enough, one that does not fit is not.
    if (signers.length === 0 || /^\[GNUPG:\] BADSIG/m.test(status)) throw notSigned(request, status)
    return { text: readFileSync(textFile, 'utf8'), signers: signers.sort() }
  } finally {
    discard(textFile)
    discard(signed)
  }
}

const REASONS: Readonly<Record<string, string>> = {
  BADSIG: 'its content does not match its signature: it was changed on the way or on the mirror',
  NO_PUBKEY: 'it is signed by a key that the keyring does not hold',
  ERRSIG: 'it is signed by a key that the keyring does not hold',
  EXPKEYSIG: 'it is signed by a key that has expired',
  REVKEYSIG: 'it is signed by a key that was revoked',
}

function notSigned({ address, keyring, hint }: SignedRequest, status: string): BuildError {
  const words = /^\[GNUPG:\] (BADSIG|NO_PUBKEY|ERRSIG|EXPKEYSIG|REVKEYSIG) (\S+)/m.exec(status)
  return new BuildError('E_SIGNATURE', `${address}: not signed by the archive's key`, {
    because: [
      words === null
        ? 'it carries no signature'
        : `${REASONS[String(words[1])] ?? ''} (key ${String(words[2])})`,
      `keyring: ${keyring}`,
    ],
    hint,
  })
}
