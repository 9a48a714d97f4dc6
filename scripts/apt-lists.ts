// SPDX-License-Identifier: Apache-2.0
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

import type { IndexedSuite } from './apt-index.ts'
import { findEntry, makeEntry } from './cache.ts'
import { fingerprint } from './digest.ts'
import { fetchFile } from './fetch-file.ts'
import { keepFile } from './kept-file.ts'
import { unpackFile, unpackedFile } from './unpacked-file.ts'

/** A list of packages that a signed index names by its digest. */
export interface PackageList {
  /** Below the suite, such as `main/binary-amd64/Packages.xz`. */
  readonly path: string
  readonly url: string
  readonly file: string
  readonly sizeBytes: number
  readonly sha256: string
}

/** Endings of lists, the smallest file first. */
const ENDINGS = ['.xz', '.gz', ''] as const

/**
 * Have the lists of a suite that hold packages for an architecture, one per component.
 *
 * @param text signed text of the suite's index, whose digests they must have
 * @throws BuildError as fetchFile
 */
export async function fetchPackageLists(
  suite: Pick<IndexedSuite, 'suite' | 'url'>,
  text: string,
  of: { readonly components: readonly string[]; readonly debianArch: string; readonly cacheDir: string },
): Promise<PackageList[]> {
  const wanted = of.components.flatMap((component) => listsOf(text, component, of.debianArch))
  const base = `${suite.url}/dists/${suite.suite}`
  const isByHash = text.includes('\nAcquire-By-Hash: yes')
  return Promise.all(
    wanted.map(async ({ path, digest }) => {
      const url = `${base}/${isByHash ? byHash(path, digest) : path}`
      const digestOrigin = `the signed index of ${suite.suite}`
      const hint = 'try again with REFRESH=always, or use another mirror with REPO_URL'
      const file = await oneAtATime(digest, () =>
        keepFile(of.cacheDir, digest, (target) => fetchFile({ url, target, digest, digestOrigin, hint })),
      )
      return { path, url: `${base}/${path}`, file, sizeBytes: statSync(file).size, sha256: digest }
    }),
  )
}

/** Lists of a component: of the architecture, and of packages for all where those have a list of their own. */
function listsOf(text: string, component: string, debianArch: string): { path: string; digest: string }[] {
  const hasOwnAll = !/^No-Support-for-Architecture-all:.*\bPackages\b/m.test(text) && isForAll(text)
  return [debianArch, ...(hasOwnAll ? ['all'] : [])].flatMap((arch) => {
    for (const ending of ENDINGS) {
      const path = `${component}/binary-${arch}/Packages${ending}`
      const digest = digestIn(text, path)
      if (digest !== undefined) return [{ path, digest }]
    }
    return []
  })
}

/** Source: wiki.debian.org/DebianRepository/Format, "Architectures". */
function isForAll(text: string): boolean {
  return /^Architectures:.*\ball\b/m.test(text)
}

/** sha256 that a signed index names for a path; undefined where it names none. */
export function digestIn(text: string, path: string): string | undefined {
  const section = text.slice(text.indexOf('\nSHA256:'))
  return new RegExp(`^ ([0-9a-f]{64}) +\\d+ ${path.replace(/[.+]/g, '\\$&')}$`, 'm').exec(section)?.[1]
}

/** A name that an update of the mirror does not change. Source: wiki.debian.org/DebianRepository/Format. */
function byHash(path: string, digest: string): string {
  return path.replace(/[^/]+$/, `by-hash/SHA256/${digest}`)
}

/**
 * Paragraphs of a list, in its order.
 *
 * @param cacheDir has the list unpacked for the moment
 */
export async function readPackageList(
  { file, path }: Pick<PackageList, 'file' | 'path'>,
  cacheDir: string,
): Promise<string[]> {
  const text = (await unpackedFile(file, path, cacheDir)).toString('utf8')
  return text.split(/\n\n+/).filter((paragraph) => paragraph.trim() !== '')
}

/** Name of the file in its entry of the cache. */
const CONTENT = 'list'

type UnpackedList = Pick<PackageList, 'file' | 'path' | 'sha256'>

/** Have a list unpacked in the cache, for the next one who adds a package too. Returns its path. */
export async function unpackedList(
  { file, path, sha256: digest }: UnpackedList,
  cacheDir: string,
): Promise<string> {
  const key = fingerprint({ unpacked: digest })
  const known = findEntry(cacheDir, 'mirror', key)
  if (known !== undefined) return join(known, CONTENT)
  return await oneAtATime(key, async () => {
    const unpack = (folder: string): Promise<void> => unpackFile(file, path, join(folder, CONTENT))
    return join(await makeEntry(cacheDir, 'mirror', key, unpack), CONTENT)
  })
}

const underway = new Map<string, Promise<unknown>>()

/** Do what makes a file, unless this process does it already: two suites may have the same list, an empty one. */
function oneAtATime<Result>(key: string, work: () => Promise<Result>): Promise<Result> {
  const running =
    underway.get(key) ??
    work().finally(() => {
      underway.delete(key)
    })
  underway.set(key, running)
  return running as Promise<Result>
}

/** The whole of a list, one character per byte: quick to cut, and written as `latin1` it is what it was. */
export async function readListText(list: UnpackedList, cacheDir: string): Promise<string> {
  return readFileSync(await unpackedList(list, cacheDir), 'latin1')
}

/** A field of a paragraph, on one line; empty where there is none. */
export function fieldOf(paragraph: string, name: string): string {
  return new RegExp(`^${name}: *(.*)$`, 'm').exec(paragraph)?.[1] ?? ''
}
