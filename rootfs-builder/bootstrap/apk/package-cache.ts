// SPDX-License-Identifier: Apache-2.0
import { readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

import { findEntry, makeEntry } from '../../../scripts/cache.ts'
import { fingerprint } from '../../../scripts/digest.ts'
import { BuildError } from '../../../scripts/errors.ts'
import type { EntryHeader, TarEntry } from './archive.ts'
import { parseDependency } from './dependency.ts'
import type { ApkPackage } from './index.ts'
import { fetchPackage, openPackage } from './package.ts'
import type { OpenPackage } from './package.ts'
import { pemOf } from './signature.ts'
import type { Keys } from './signature.ts'

/** Content of all files of a package, one after the other. */
const DATA = 'data'

/** All else of it. */
const FACTS = 'package.json'

/** Layout of an entry; another one gets other keys. */
const LAYOUT = 2

interface StoredEntry {
  readonly header: Omit<EntryHeader, 'mtime'>
  readonly mtimeMs: number
  readonly bytes: number
  /** In base64. */
  readonly xattrs?: readonly (readonly [string, string])[]
}

interface StoredPackage {
  readonly signer: string
  /** In base64. */
  readonly scripts: readonly (readonly [string, string])[]
  readonly triggers: readonly string[]
  readonly replaces: readonly string[]
  readonly replacesPriority: number
  readonly entries: readonly StoredEntry[]
}

/** What a lock says of a package. */
export interface LockedApk {
  readonly sha256: string
  /** Key that signed it. */
  readonly signer: string
  /** Path of the lock. */
  readonly lockFile: string
  readonly read: () => Promise<Buffer>
}

/**
 * Folder of the cache that holds a package, verified and unpacked; fetched first where it is not there.
 *
 * The key names the signed digest and the keys that are trusted, so what other keys proved is not found.
 *
 * @param locked its file in a lock, when there is one
 * @throws BuildError as fetchPackage, openPackage and the lock's read do
 */
export async function storePackage(
  item: ApkPackage,
  keys: Keys,
  cacheDir: string,
  locked?: LockedApk,
): Promise<string> {
  const { name, version, checksum } = item
  const digest = locked === undefined ? {} : { sha256: locked.sha256, signer: locked.signer }
  const key = fingerprint({ layout: LAYOUT, name, version, checksum, ...digest, keys: pemOf(keys) })
  const found = findEntry(cacheDir, 'package', key)
  if (found !== undefined) return found
  const open = await openPackage(item, await (locked?.read() ?? fetchPackage(item)), keys)
  if (locked !== undefined && locked.signer !== open.signer) {
    throw new BuildError('E_SIGNATURE', `${name} ${version}: signed by another key than the lock names`, {
      because: [`locked: ${locked.signer}`, `found:  ${open.signer}`],
      hint: `git checkout -- ${basename(locked.lockFile)}    or make lock-update`,
    })
  }
  return makeEntry(cacheDir, 'package', key, (folder) => {
    writeFileSync(join(folder, DATA), Buffer.concat(open.entries.map(({ body }) => body)))
    writeFileSync(join(folder, FACTS), JSON.stringify(stored(open)))
    return Promise.resolve()
  })
}

function stored({ signer, facts, entries }: OpenPackage): StoredPackage {
  const { scripts, triggers, replaces, replacesPriority } = facts
  return {
    signer,
    scripts: [...scripts].map(([name, content]) => [name, content.toString('base64')]),
    triggers,
    replaces: replaces.map(({ text }) => text),
    replacesPriority,
    entries: entries.map(({ header, body, xattrs }) => {
      const { name, type, mode, uid, gid, uname, gname, linkname } = header
      return {
        header: { name, type, mode, uid, gid, uname, gname, linkname },
        mtimeMs: header.mtime?.getTime() ?? 0,
        bytes: body.length,
        ...(xattrs === undefined
          ? {}
          : { xattrs: [...xattrs].map(([key, value]) => [key, value.toString('base64')] as const) }),
      }
    }),
  }
}

/** Read a package from its folder in the cache. */
export function readPackage(item: ApkPackage, folder: string): OpenPackage {
  const facts = JSON.parse(readFileSync(join(folder, FACTS), 'utf8')) as StoredPackage
  const data = readFileSync(join(folder, DATA))
  let at = 0
  const entries = facts.entries.map(({ header, mtimeMs, bytes, xattrs }): TarEntry => {
    const body = data.subarray(at, at + bytes)
    at += bytes
    return {
      header: { ...header, mtime: new Date(mtimeMs) },
      body,
      ...(xattrs === undefined
        ? {}
        : { xattrs: new Map(xattrs.map(([key, value]) => [key, bytesOf(value)])) }),
    }
  })
  return {
    signer: facts.signer,
    facts: {
      item,
      scripts: new Map(facts.scripts.map(([name, content]) => [name, bytesOf(content)])),
      triggers: facts.triggers,
      replaces: facts.replaces.map(parseDependency),
      replacesPriority: facts.replacesPriority,
    },
    entries,
  }
}

function bytesOf(text: string): Buffer {
  return Buffer.from(text, 'base64')
}
