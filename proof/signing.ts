// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

import { BuildError } from '../scripts/errors.ts'
import { DESCRIPTIONS, manifestPath } from '../scripts/manifest.ts'
import { capture, requireTools } from '../scripts/run.ts'
import { discard, temporaryFor } from '../scripts/temporary.ts'

/** What signatures of ours are for; OpenSSH refuses one that was made for something else. Source: ssh-keygen(1), -n */
const NAMESPACE = 'file'

/** Who a single public key stands for. */
const SIGNER = 'osbuilder'

export type KeyKind = 'openssh' | 'minisign'

const ENDINGS: Readonly<Record<KeyKind, string>> = { openssh: '.sig', minisign: '.minisig' }
const TOOLS: Readonly<Record<KeyKind, string>> = { openssh: 'ssh-keygen', minisign: 'minisign' }

/** File that holds the signature of a file. */
export function signaturePath(file: string, kind: KeyKind): string {
  return `${file}${ENDINGS[kind]}`
}

/** The files of an output that are signed: itself when it is a file, its manifest and its descriptions. */
export function signedFiles(
  output: { readonly path: string; readonly kind: string },
  others: readonly string[],
): string[] {
  const own = output.kind === 'rootfs' ? [] : [output.path]
  const described = Object.values(DESCRIPTIONS).map((ending) => `${output.path}${ending}`)
  return [...own, ...others, manifestPath(output.path), ...described]
}

/**
 * What made a secret key.
 *
 * @throws BuildError E_CONFIG when SIGN_KEY names none
 */
export function secretKeyKind(file: string): KeyKind {
  const text = readKey(
    'SIGN_KEY',
    file,
    'make SIGN_KEY=~/.ssh/id_ed25519 sign    or the secret key of minisign',
  )
  if (/^-----BEGIN (OPENSSH|RSA|EC) PRIVATE KEY-----/.test(text)) return 'openssh'
  if (/^untrusted comment: .*\n(RW[A-Za-z0-9+/=]{100,})/.test(text)) return 'minisign'
  const isPublic = /^(ssh-|ecdsa-|sk-)|^untrusted comment:/.test(text)
  throw new BuildError('E_CONFIG', `SIGN_KEY=${file}: ${isPublic ? 'is a public key' : 'is no secret key'}`, {
    because: ['expected a secret key of OpenSSH (ssh-keygen) or of minisign'],
    hint: "ssh-keygen -t ed25519 -N '' -f osbuilder-key    makes one",
  })
}

/** Who may have signed: one public key, or the allowed signers of ssh-keygen(1). */
export interface Verifier {
  readonly kind: KeyKind
  readonly file: string
  /** True when the file names signers; false when it is one key. */
  readonly hasNames: boolean
}

/** @throws BuildError E_CONFIG when VERIFY_KEY names no public key */
export function openVerifier(file: string): Verifier {
  const text = readKey('VERIFY_KEY', file, 'make VERIFY_KEY=osbuilder-key.pub verify')
  const lines = text.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'))
  const first = lines[0] ?? ''
  const isKey = /^(ssh-|ecdsa-|sk-)\S+ [A-Za-z0-9+/=]{20,}/.test(first)
  if (isKey && lines.length === 1) return { kind: 'openssh', file, hasNames: false }
  if (/^\S+ (\S+ )*(ssh-|ecdsa-|sk-)\S+ [A-Za-z0-9+/=]{20,}/.test(first))
    return { kind: 'openssh', file, hasNames: true }
  if (/^RW[A-Za-z0-9+/=]{54}$/.test((lines[1] ?? first).trim()))
    return { kind: 'minisign', file, hasNames: false }
  const isSecret = /PRIVATE KEY|encrypted secret key/.test(text)
  throw new BuildError(
    'E_CONFIG',
    `VERIFY_KEY=${file}: ${isSecret ? 'is a secret key' : 'is no public key'}`,
    {
      because: ['expected a public key of OpenSSH or minisign, or a file of allowed signers (ssh-keygen(1))'],
      hint: isSecret ? `make VERIFY_KEY=${file}.pub verify` : 'make VERIFY_KEY=osbuilder-key.pub verify',
    },
  )
}

function readKey(setting: string, file: string, hint: string): string {
  if (file === '') throw new BuildError('E_CONFIG', `${setting}: is not set; it names the key`, { hint })
  if (existsSync(file)) return readFileSync(file, 'utf8')
  throw new BuildError('E_CONFIG', `${setting}=${file}: no such file`, { hint })
}

/**
 * Sign a file; the signature lies beside it.
 *
 * @throws BuildError E_COMMAND when the tool refuses, as for a key with a passphrase
 */
export async function signFile(file: string, key: string, kind: KeyKind): Promise<void> {
  requireTools([TOOLS[kind]])
  const signature = signaturePath(file, kind)
  const temporary = temporaryFor(signature)
  try {
    if (kind === 'openssh') {
      // Nobody is asked for a passphrase: make may run where nobody is.
      const env = { SSH_ASKPASS: '/bin/false', SSH_ASKPASS_REQUIRE: 'force' }
      const options = ['-q', '-Y', 'sign', '-n', NAMESPACE, '-f', key]
      // Given a name it would write beside the file and ask before it overwrites.
      const text = await capture(['ssh-keygen', ...options], { inputFile: file, env })
      writeFileSync(temporary, `${text}\n`)
    } else {
      const comment = `file: ${basename(file)}`
      await capture(['minisign', '-S', '-s', key, '-m', file, '-x', temporary, '-t', comment])
    }
    renameSync(temporary, signature)
  } catch (error) {
    if (!(error instanceof BuildError) || error.code !== 'E_COMMAND') throw error
    throw new BuildError('E_COMMAND', `SIGN_KEY=${key}: ${basename(file)} cannot be signed with it`, {
      because: error.because,
      hint: 'use a key without passphrase, readable by you alone: chmod 600 the file',
      cause: error,
    })
  } finally {
    discard(temporary)
  }
}

/**
 * Check the signature beside a file. Returns who signed it.
 *
 * @param scratchDir folder for a list of signers
 * @throws BuildError E_SIGNATURE when there is none, or it is not of this file and a known signer
 */
export async function verifyFile(file: string, verifier: Verifier, scratchDir: string): Promise<string> {
  requireTools([TOOLS[verifier.kind]])
  const signature = signaturePath(file, verifier.kind)
  if (!existsSync(signature)) {
    throw new BuildError('E_SIGNATURE', `${file}: is not signed: ${basename(signature)} is not there`, {
      hint: 'make SIGN_KEY=… sign    signs it; do not trust it before you know why the signature is gone',
    })
  }
  try {
    return verifier.kind === 'openssh'
      ? await verifyOpenSsh(file, signature, verifier, scratchDir)
      : await verifyMinisign(file, signature, verifier)
  } catch (error) {
    if (!(error instanceof BuildError) || error.code !== 'E_COMMAND') throw error
    throw new BuildError('E_SIGNATURE', `${file}: the signature is not good`, {
      because: [
        'the file was changed after it was signed, or it was signed with another key than VERIFY_KEY',
        ...error.because.filter((line) => !line.startsWith('command:')),
      ],
      hint: 'get output and signature again from who built it; do not use this one',
      cause: error,
    })
  }
}

async function verifyOpenSsh(
  file: string,
  signature: string,
  verifier: Verifier,
  scratchDir: string,
): Promise<string> {
  let signers = verifier.file
  if (!verifier.hasNames) {
    signers = join(scratchDir, 'signers')
    writeFileSync(
      signers,
      `${SIGNER} namespaces="${NAMESPACE}" ${readFileSync(verifier.file, 'utf8').trim()}\n`,
    )
  }
  const names = await capture(['ssh-keygen', '-Y', 'find-principals', '-s', signature, '-f', signers], {
    acceptFailure: true,
  })
  const [name] = names.split('\n').filter((line) => line !== '')
  if (name === undefined) {
    throw new BuildError('E_SIGNATURE', `${file}: was signed by somebody whom VERIFY_KEY does not name`, {
      because: [`VERIFY_KEY=${verifier.file}`],
      hint: 'get the public key of who built it from a place you trust, not from where the output lies',
    })
  }
  // A name may stand for several: the first is as good as any.
  const signer = name.split(',')[0] ?? name
  const options = ['-I', signer, '-n', NAMESPACE, '-s', signature, '-f', signers]
  await capture(['ssh-keygen', '-Y', 'verify', ...options], { inputFile: file })
  return verifier.hasNames ? signer : basename(verifier.file)
}

async function verifyMinisign(file: string, signature: string, verifier: Verifier): Promise<string> {
  const said = await capture(['minisign', '-V', '-Q', '-p', verifier.file, '-m', file, '-x', signature])
  // The comment is signed with the file: a signature of one name does not pass for another's.
  const expected = `file: ${basename(file)}`
  if (said.trim() === expected) return basename(verifier.file)
  throw new BuildError('E_SIGNATURE', `${file}: the signature is of another file`, {
    because: [`it says: ${said.trim()}`, `expected: ${expected}`],
    hint: 'get output and signature again from who built it',
  })
}
