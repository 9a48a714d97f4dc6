// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'

import { BuildError } from '../../../scripts/errors.ts'
import { unpackedFile } from '../../../scripts/unpacked-file.ts'

/** A list that a repomd.xml names. */
export interface NamedList {
  /** Below the repository, such as `repodata/…-primary.xml.gz`. */
  readonly path: string
  readonly digest: Digest
}

export interface Digest {
  /** As openssl calls it. */
  readonly type: string
  readonly hex: string
}

/** A package as primary.xml has it. */
export interface ListedRpm {
  /** `name epoch:version-release arch`, without an epoch of 0. */
  readonly key: string
  /** Below the repository. */
  readonly path: string
  readonly digest: Digest
}

/** The list of packages that a repomd.xml names; undefined when there is none. */
export function primaryOf(repomd: string): NamedList | undefined {
  const data = /<data type="primary">([^]*?)<\/data>/.exec(repomd)?.[1] ?? ''
  const path = /<location[^>]* href="([^"]+)"/.exec(data)?.[1]
  const digest = digestOf(data)
  return path === undefined || digest === undefined ? undefined : { path: unescaped(path), digest }
}

/** Types of digests, and what they are called elsewhere. `sha` is the oldest name of one. */
function digestOf(xml: string): Digest | undefined {
  const [, type, hex] = /<checksum type="(\w+)"[^>]*>([0-9a-f]+)</.exec(xml) ?? []
  return type === undefined || hex === undefined ? undefined : { type: type === 'sha' ? 'sha1' : type, hex }
}

/**
 * The packages of a primary.xml.
 *
 * @param path of the file below its repository, which tells by its ending how it is compressed
 * @param cacheDir has it unpacked for the moment
 */
export async function readPrimary(
  { file, path }: { readonly file: string; readonly path: string },
  cacheDir: string,
): Promise<ListedRpm[]> {
  const text = (await unpackedFile(file, path, cacheDir)).toString('utf8')
  return [...text.matchAll(/<package type="rpm">([^]*?)<\/package>/g)].flatMap(([, xml = '']) => {
    const word = (pattern: RegExp): string => unescaped(pattern.exec(xml)?.[1] ?? '')
    const digest = digestOf(xml)
    if (digest === undefined) return []
    const version = /<version[^>]*>/.exec(xml)?.[0] ?? ''
    const of = (attribute: string): string => new RegExp(` ${attribute}="([^"]*)"`).exec(version)?.[1] ?? ''
    const epoch = of('epoch')
    const evr = `${epoch === '' || epoch === '0' ? '' : `${epoch}:`}${of('ver')}-${of('rel')}`
    return [
      {
        key: `${word(/<name>([^<]*)</)} ${evr} ${word(/<arch>([^<]*)</)}`,
        path: word(/<location[^>]* href="([^"]+)"/),
        digest,
      },
    ]
  })
}

/** Source: XML 1.0, 4.6 Predefined Entities. */
function unescaped(text: string): string {
  return text
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&apos;', "'")
    .replaceAll('&amp;', '&')
}

/** True when a file has a digest. @throws BuildError E_INPUT for a kind of digest that is not known */
export async function hasDigest(file: string, { type, hex }: Digest): Promise<boolean> {
  let hash
  try {
    hash = createHash(type)
  } catch (error) {
    throw new BuildError('E_INPUT', `${file}: its index has a digest of the unknown kind ${type}`, {
      cause: error,
    })
  }
  await pipeline(createReadStream(file), hash)
  return hash.digest('hex') === hex
}
