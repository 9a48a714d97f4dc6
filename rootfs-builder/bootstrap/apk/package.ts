// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'

import { sha256 } from '../../../scripts/digest.ts'
import { fetchSmall } from '../../../scripts/download.ts'
import { BuildError } from '../../../scripts/errors.ts'
import { gzipMembers, readTar } from './archive.ts'
import type { TarEntry } from './archive.ts'
import { parseDependency } from './dependency.ts'
import type { Dependency } from './dependency.ts'
import type { ApkPackage } from './index.ts'
import { checkSignature } from './signature.ts'
import type { Keys } from './signature.ts'

/** Scripts of a package, by the name of the moment they are run at. */
export type ScriptName = 'pre-install' | 'post-install' | 'trigger'

/** What a package tells of itself beside its files. */
export interface PackageFacts {
  readonly item: ApkPackage
  /** Every script it has, those of upgrades as well. */
  readonly scripts: ReadonlyMap<string, Buffer>
  /** Folders whose change the trigger is told of, as patterns. */
  readonly triggers: readonly string[]
  /** Packages whose files it may replace. */
  readonly replaces: readonly Dependency[]
  readonly replacesPriority: number
}

/** A package that was fetched, verified and unpacked into memory. */
export interface OpenPackage {
  /** Key that signed it. */
  readonly signer: string
  readonly facts: PackageFacts
  readonly entries: readonly TarEntry[]
}

/** Address of a package's file. */
export function packageUrl(item: ApkPackage): string {
  return `${item.repository.url}/${item.arch}/${item.name}-${item.version}.apk`
}

/**
 * Fetch a package.
 *
 * @throws BuildError E_SIGNATURE when any of its three parts is not the one that index and signature name
 */
export async function fetchPackage(item: ApkPackage): Promise<Buffer> {
  const url = packageUrl(item)
  const answer = await fetchSmall(url)
  if (!answer.found) {
    throw new BuildError('E_NETWORK', `${url}: the index names it, and the mirror has no such file`, {
      because: [`status ${String(answer.status)}`],
      hint: 'the mirror may be in the middle of an update: try again later, or make REFRESH=always …',
    })
  }
  return answer.content
}

/**
 * Verify and unpack a package: its signature is of the control part, the index holds that part's
 * digest, and the control part holds the digest of the data part. Source: apk-v2(5)
 */
export async function openPackage(item: ApkPackage, file: Buffer, keys: Keys): Promise<OpenPackage> {
  const url = packageUrl(item)
  const members = await gzipMembers(file, url)
  const [signature, control, ...data] = members
  if (control === undefined || data.length === 0) throw changed(url, 'a part of it is missing')
  const signer = await checkSignature(signature, [control.compressed], keys, url)
  if (!isChecksumOf(control.compressed, item.checksum))
    throw changed(url, 'its control part is not the one that the index names')
  const info = new Map<string, string[]>()
  const controls = await readTar(control.content, url)
  const text = controls.find(({ header }) => header.name === '.PKGINFO')?.body.toString('utf8') ?? ''
  for (const [, key = '', value = ''] of text.matchAll(/^(\w+) = (.*)$/gm)) {
    info.set(key, [...(info.get(key) ?? []), value])
  }
  const compressed = Buffer.concat(data.map((part) => part.compressed))
  if (info.get('datahash')?.[0] !== sha256(compressed)) {
    throw changed(url, 'its data part is not the one that its control part names')
  }
  const scripts = new Map(
    controls
      .filter(({ header }) => /^\.(pre|post)-(install|upgrade|deinstall)$|^\.trigger$/.test(header.name))
      .map(({ header, body }) => [header.name.slice(1), body]),
  )
  return {
    signer,
    facts: {
      item,
      scripts,
      triggers: (info.get('triggers')?.[0] ?? '').split(' ').filter((word) => word !== ''),
      replaces: (info.get('replaces') ?? []).map(parseDependency),
      replacesPriority: Number(info.get('replaces_priority')?.[0] ?? 0),
    },
    entries: await readTar(Buffer.concat(data.map(({ content }) => content)), url),
  }
}

/** How an index names a digest: the kind, then base64. Source: apk-v2(5) */
const DIGESTS: Readonly<Record<string, string>> = { Q1: 'sha1', Q2: 'sha256' }

function isChecksumOf(content: Buffer, checksum: string): boolean {
  const algorithm = DIGESTS[checksum.slice(0, 2)]
  if (algorithm === undefined) return false
  return createHash(algorithm).update(content).digest('base64') === checksum.slice(2)
}

function changed(url: string, why: string): BuildError {
  return new BuildError('E_SIGNATURE', `${url}: is not the package that the index names`, {
    because: [why],
    hint: 'try again later or use another mirror with REPO_URL',
  })
}
