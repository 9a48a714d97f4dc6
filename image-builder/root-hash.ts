// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { sha256File } from '../scripts/digest.ts'
import { BuildError } from '../scripts/errors.ts'
import { readManifest } from '../scripts/manifest.ts'
import { capture, requireTools } from '../scripts/run.ts'
import type { Settings } from '../scripts/settings.ts'
import { withTemporary, writeWhole } from '../scripts/temporary.ts'
import type { ImageLayout } from './layout.ts'
import { VERITY_BLOCK_BYTES, rootHashLine, treeBytes } from './verity.ts'
import type { VerityFacts } from './verity.ts'

export interface RootHashFiles {
  /** The line that runtimes read. */
  readonly line: string
  /** Signature of the root hash. */
  readonly signature: string
}

/** Names of what is beside a measured image. The first is upstream's, whose variant may be empty. */
export function rootHashFiles(output: string, variant: string): RootHashFiles {
  const stem = join(dirname(output), `root_hash_${variant}`)
  return { line: `${stem}.txt`, signature: `${stem}.p7s` }
}

type SigningSettings = Pick<Settings, 'VERITY_KEY' | 'VERITY_CERT'>

/** What of the key and the certificate decides the signature: their content. */
export function signingInputs({ VERITY_KEY, VERITY_CERT }: SigningSettings): {
  readonly [name: string]: string
} {
  if (VERITY_KEY === '') return {}
  return { VERITY_KEY: sha256File(VERITY_KEY), VERITY_CERT: sha256File(VERITY_CERT) }
}

/**
 * Check before anything is built that a key is there and belongs to its certificate.
 *
 * @throws BuildError E_CONFIG naming the setting
 */
export async function checkSigning({ VERITY_KEY, VERITY_CERT }: SigningSettings): Promise<void> {
  if (VERITY_KEY === '') return
  requireTools(['openssl'], 'sudo make VERITY_KEY=… setup image')
  const ask = async (setting: string, file: string, argv: readonly string[]): Promise<string> => {
    try {
      return await capture(['openssl', ...argv])
    } catch (error) {
      throw new BuildError('E_CONFIG', `${setting}=${file}: openssl cannot read it`, {
        because:
          error instanceof BuildError ? error.because.filter((line) => !line.startsWith('command:')) : [],
        hint: HINT,
        cause: error,
      })
    }
  }
  // Without a terminal an encrypted key is an error, not a question that nobody sees.
  const ofKey = await ask('VERITY_KEY', VERITY_KEY, [
    'pkey',
    '-in',
    VERITY_KEY,
    '-pubout',
    '-passin',
    'pass:',
  ])
  const ofCert = await ask('VERITY_CERT', VERITY_CERT, ['x509', '-in', VERITY_CERT, '-noout', '-pubkey'])
  if (ofKey === ofCert) return
  throw new BuildError(
    'E_CONFIG',
    `VERITY_CERT=${VERITY_CERT}: is not the certificate of VERITY_KEY=${VERITY_KEY}`,
    {
      hint: HINT,
    },
  )
}

const HINT =
  'openssl req -x509 -newkey rsa:3072 -nodes -keyout verity.key -out verity.crt -subj /CN=verity -days 3650    makes a pair'

/** Write the root hash beside the image, and its signature when there is a key. */
export async function writeRootHash(
  files: RootHashFiles,
  facts: VerityFacts,
  { VERITY_KEY, VERITY_CERT }: SigningSettings,
): Promise<void> {
  writeWhole(files.line, rootHashLine(facts))
  if (VERITY_KEY === '') {
    rmSync(files.signature, { force: true })
    return
  }
  await withTemporary(files.signature, async (temporary) => {
    const text = `${temporary}.in`
    // What the kernel checks is the text of the hash, without an end of line.
    writeFileSync(text, facts.rootHash)
    try {
      await capture(
        [
          ['openssl', 'smime', '-sign', '-nocerts', '-noattr', '-binary', '-md', 'sha256'],
          ['-in', text, '-inkey', VERITY_KEY, '-signer', VERITY_CERT, '-passin', 'pass:'],
          ['-outform', 'der', '-out', temporary],
        ].flat(),
      )
    } finally {
      rmSync(text, { force: true })
    }
  })
}

/** True when what is beside a measured image is what was written with it. */
export function isRootHashCurrent(output: string): boolean {
  const verity = readManifest(output)?.result['verity'] as
    | {
        readonly line: string
        readonly file: string
        readonly signature?: string
        readonly signatureSha256?: string
      }
    | undefined
  if (verity === undefined) return true
  const line = join(dirname(output), verity.file)
  if (!existsSync(line) || readFileSync(line, 'utf8') !== verity.line) return false
  if (verity.signature === undefined) return true
  const signature = join(dirname(output), verity.signature)
  return existsSync(signature) && sha256File(signature) === verity.signatureSha256
}

/** Remove the root hash of the image that had the name, when it describes no image any more. */
export function removeOldRootHash(output: string, kept: RootHashFiles | undefined): void {
  const verity = readManifest(output)?.result['verity'] as
    { readonly line?: string; readonly file?: string; readonly signature?: string } | undefined
  const names = [verity?.file, verity?.signature].filter((name) => name !== undefined)
  const line = join(dirname(output), verity?.file ?? '')
  // Another image may have written its own there since.
  if (verity?.file === undefined || !existsSync(line) || readFileSync(line, 'utf8') !== verity.line) return
  for (const name of names) {
    const file = join(dirname(output), basename(name))
    if (file !== kept?.line && file !== kept?.signature) rmSync(file, { force: true })
  }
}

/** What the manifest tells of the tree: all that is needed to check it, or to make it again. */
export function describeVerity(facts: VerityFacts, layout: ImageLayout, files: RootHashFiles) {
  const isSigned = existsSync(files.signature)
  return {
    ...facts,
    algorithm: 'sha256',
    hashType: 1,
    dataBlockSize: VERITY_BLOCK_BYTES,
    hashBlockSize: VERITY_BLOCK_BYTES,
    dataOffsetBytes: layout.filesystemOffsetBytes,
    dataBytes: layout.filesystemBytes,
    treeOffsetBytes: layout.hashOffsetBytes,
    treeBytes: treeBytes(layout.filesystemBytes),
    line: rootHashLine(facts),
    file: basename(files.line),
    ...(isSigned
      ? { signature: basename(files.signature), signatureSha256: sha256File(files.signature) }
      : {}),
  }
}
