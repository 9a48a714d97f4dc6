// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { BuildError } from '../../../scripts/errors.ts'
import { capture, requireTools } from '../../../scripts/run.ts'
import { discard, temporaryFor } from '../../../scripts/temporary.ts'

/**
 * Full fingerprints of the keys whose detached signature of a text holds.
 *
 * @param keys files with OpenPGP keys, armored or not
 * @throws BuildError E_SIGNATURE when none of them has signed it
 */
export async function detachedSigners(
  content: Buffer,
  signature: Buffer,
  keys: readonly string[],
  { address, scratch }: { readonly address: string; readonly scratch: string },
): Promise<string[]> {
  requireTools(['gpgv'])
  mkdirSync(dirname(scratch), { recursive: true })
  const folder = temporaryFor(scratch)
  try {
    mkdirSync(folder)
    const [keyring, text, detached] = ['keyring.gpg', 'text', 'signature'].map((name) =>
      join(folder, name),
    ) as [string, string, string]
    writeFileSync(keyring, Buffer.concat(keys.flatMap((file) => dearmored(readFileSync(file)))))
    writeFileSync(text, content)
    writeFileSync(detached, signature)
    const status = await capture(['gpgv', '--status-fd', '1', '--keyring', keyring, detached, text], {
      acceptFailure: true,
    })
    const signers = [...status.matchAll(/^\[GNUPG:\] VALIDSIG (\S+)/gm)].map((match) => String(match[1]))
    if (signers.length > 0 && !/^\[GNUPG:\] BADSIG/m.test(status)) return signers.sort()
    throw new BuildError('E_SIGNATURE', `${address}: not signed by a key of the repository`, {
      because: [/BADSIG/.test(status) ? 'it was changed since' : `keys: ${keys.join(', ')}`],
      hint: 'check REPO_KEYRING: the keys that sign the mirror which was locked',
    })
  } finally {
    discard(folder)
  }
}

/** Keys as the packets they are. Source: RFC 4880, 6.2 */
function dearmored(file: Buffer): Buffer[] {
  const text = file.toString('latin1')
  const blocks = [
    ...text.matchAll(/-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n([^]*?)-----END PGP PUBLIC KEY BLOCK-----/g),
  ]
  if (blocks.length === 0) return [file]
  return blocks.map(([, block = '']) => {
    const body = block.replaceAll('\r', '').split('\n')
    // Headers end with an empty line; the last line is a checksum.
    const start = body.indexOf('') + 1
    const lines = body.slice(start).filter((line) => !line.startsWith('='))
    return Buffer.from(lines.join(''), 'base64')
  })
}
