// SPDX-License-Identifier: Apache-2.0
import { createPublicKey, verify } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'

import { BuildError, errnoOf } from '../../../scripts/errors.ts'
import { readTar } from './archive.ts'
import type { Member } from './archive.ts'

/** Public keys by the file name that signatures call them by. */
export type Keys = ReadonlyMap<string, KeyObject>

/**
 * The keys of a folder of `*.rsa.pub` files, or of one such file.
 *
 * @param from setting or distro that names the path, for errors
 * @throws BuildError E_INPUT when there is none
 */
export function readKeys(path: string, from: string): Keys {
  let files: string[]
  try {
    files = statSync(path).isDirectory()
      ? readdirSync(path)
          .filter((name) => name.endsWith('.rsa.pub'))
          .map((name) => join(path, name))
      : [path]
  } catch (error) {
    throw new BuildError('E_INPUT', `${from}=${path}: cannot be read (${errnoOf(error) ?? ''})`, {
      hint: 'give the folder with the keys of the repository, or one such file',
      cause: error,
    })
  }
  if (files.length === 0) {
    throw new BuildError('E_INPUT', `${from}=${path}: has no *.rsa.pub files in it`, {
      hint: 'give the folder with the keys of the repository, or one such file',
    })
  }
  return new Map(files.map((file) => [basename(file), readKey(file)]))
}

function readKey(file: string): KeyObject {
  try {
    return createPublicKey(readFileSync(file))
  } catch (error) {
    throw new BuildError('E_INPUT', `${file}: is no public key in PEM form`, {
      hint: 'the key of a repository is a *.rsa.pub file that begins with BEGIN PUBLIC KEY',
      cause: error,
    })
  }
}

/** The keys as texts, in byte order of their names. */
export function pemOf(keys: Keys): readonly (readonly [string, string])[] {
  return [...keys]
    .map(([name, key]) => [name, key.export({ type: 'spki', format: 'pem' }).toString()] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
}

/** How a signature's name tells its kind. Source: apk-v2(5) */
const KINDS = { RSA: 'RSA-SHA1', RSA256: 'RSA-SHA256' } as const

/**
 * Check that a file is signed by one of the keys. Returns the name of that key.
 *
 * @param signature the first gzip stream of the file
 * @param signed the bytes that were signed
 * @throws BuildError E_SIGNATURE when they are not, or were changed since
 */
export async function checkSignature(
  signature: Member | undefined,
  signed: readonly Buffer[],
  keys: Keys,
  name: string,
): Promise<string> {
  const entries = signature === undefined ? [] : await readTar(signature.content, name)
  const unknown: string[] = []
  for (const { header, body } of entries) {
    const [, kind, keyName = ''] = /^\.SIGN\.(RSA|RSA256)\.(.+)$/.exec(header.name) ?? []
    if (kind !== 'RSA' && kind !== 'RSA256') continue
    const key = keys.get(keyName)
    if (key === undefined) {
      unknown.push(keyName)
      continue
    }
    if (verify(KINDS[kind], Buffer.concat(signed), key, body)) return keyName
    throw refused(
      name,
      'its content does not match its signature: it was changed on the way or on the mirror',
      keys,
    )
  }
  throw refused(
    name,
    unknown.length === 0 ? 'it carries no signature' : `it is signed by ${unknown.join(', ')}`,
    keys,
  )
}

function refused(name: string, why: string, keys: Keys): BuildError {
  return new BuildError('E_SIGNATURE', `${name}: not signed by a key of the repository`, {
    because: [why, `known keys: ${[...keys.keys()].join(', ')}`],
    hint: "check REPO_URL; for a repository of your own set REPO_KEYRING, or REPO_KEY beside the distro's keys",
  })
}
