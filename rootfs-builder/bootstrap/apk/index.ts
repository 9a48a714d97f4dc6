// SPDX-License-Identifier: Apache-2.0
import { sha256 } from '../../../scripts/digest.ts'
import { fetchSmall } from '../../../scripts/download.ts'
import { BuildError } from '../../../scripts/errors.ts'
import { gzipMembers, readTar } from './archive.ts'
import { parseDependency, parseProvided } from './dependency.ts'
import type { Dependency, Provided } from './dependency.ts'
import { checkSignature } from './signature.ts'
import type { Keys } from './signature.ts'

/** A place packages come from. */
export interface Repository {
  readonly url: string
  /** Packages are taken from it only where they are asked for as `name@tag`. */
  readonly tag?: string
}

/** One package of a repository's index. */
export interface ApkPackage {
  readonly name: string
  readonly version: string
  readonly arch: string
  /** `Q1` and the base64 of the sha1 of the package's control part. */
  readonly checksum: string
  /** Of the file, and of what it holds. Unit: bytes. */
  readonly sizeBytes: number
  readonly installedBytes: number
  readonly origin: string
  /** When it was built. Unit: seconds since 1970. */
  readonly builtSeconds: number
  readonly depends: readonly Dependency[]
  readonly provides: readonly Provided[]
  readonly installIf: readonly Dependency[]
  /** Of several packages that provide a name the highest is taken; undefined for none. */
  readonly providerPriority?: number
  /** Lines of the index, for the database of the guest. */
  readonly fields: readonly string[]
  readonly repository: Repository
}

export interface ApkIndex {
  readonly url: string
  /** The file as it was served. */
  readonly content: Buffer
  readonly sha256: string
  readonly signer: string
  readonly packages: readonly ApkPackage[]
}

/**
 * Fetch and verify the index of a repository.
 *
 * @throws BuildError E_SIGNATURE when it is not signed by one of the keys, E_NETWORK when the server
 *   cannot be reached, E_INPUT when there is no such repository
 */
export async function fetchApkIndex(repository: Repository, arch: string, keys: Keys): Promise<ApkIndex> {
  const url = `${repository.url}/${arch}/APKINDEX.tar.gz`
  const answer = await fetchSmall(url)
  if (!answer.found) {
    throw new BuildError('E_INPUT', `${url}: there is no such repository (status ${String(answer.status)})`, {
      hint: 'check OS_VERSION, REPO_URL and REPO_COMPONENTS',
    })
  }
  const { signer, packages } = await openApkIndex(answer.content, { url, repository, keys })
  return { url, content: answer.content, sha256: sha256(answer.content), signer, packages }
}

/**
 * Verify an index and read its packages.
 *
 * @throws BuildError E_SIGNATURE when it is not signed by one of the keys
 */
export async function openApkIndex(
  content: Buffer,
  { url, repository, keys }: { readonly url: string; readonly repository: Repository; readonly keys: Keys },
): Promise<Pick<ApkIndex, 'signer' | 'packages'>> {
  const [signature, ...rest] = await gzipMembers(content, url)
  const signed = rest.map(({ compressed }) => compressed)
  const signer = await checkSignature(signature, signed, keys, url)
  const entries = await readTar(Buffer.concat(rest.map((member) => member.content)), url)
  const text = entries.find(({ header }) => header.name === 'APKINDEX')?.body.toString('utf8')
  if (text === undefined) throw new BuildError('E_INPUT', `${url}: has no APKINDEX in it`)
  return { signer, packages: parseIndex(text, repository) }
}

/** The packages of an index: paragraphs of lines `X:value`. Source: apk-v2(5) */
export function parseIndex(text: string, repository: Repository): ApkPackage[] {
  return text
    .split(/\n\n+/)
    .filter((paragraph) => paragraph.trim() !== '')
    .map((paragraph) =>
      parsePackage(
        paragraph.split('\n').filter((line) => line !== ''),
        repository,
      ),
    )
}

function parsePackage(fields: readonly string[], repository: Repository): ApkPackage {
  const values = new Map(fields.map((line) => [line.slice(0, 1), line.slice(2)]))
  const value = (key: string): string => values.get(key) ?? ''
  const words = (key: string): string[] =>
    fields
      .filter((line) => line.startsWith(`${key}:`))
      .flatMap((line) => line.slice(2).split(' '))
      .filter((word) => word !== '')
  const priority = values.get('k')
  return {
    name: value('P'),
    version: value('V'),
    arch: value('A'),
    checksum: value('C'),
    sizeBytes: Number(value('S')),
    installedBytes: Number(value('I')),
    origin: value('o'),
    builtSeconds: Number(value('t')),
    depends: words('D').map(parseDependency),
    provides: words('p').map(parseProvided),
    installIf: words('i').map(parseDependency),
    ...(priority === undefined ? {} : { providerPriority: Number(priority) }),
    fields,
    repository,
  }
}
