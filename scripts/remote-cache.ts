// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { findEntry, makeEntry, readSeal } from './cache.ts'
import type { Stage } from './cache.ts'
import { sha256File } from './digest.ts'
import { BuildError } from './errors.ts'
import { note, warn } from './log.ts'
import { capture, requireTools, run } from './run.ts'
import type { Settings } from './settings.ts'
import { discard, temporaryFor } from './temporary.ts'

/** A registry that keeps entries of the cache for other machines. */
export interface RemoteCache {
  /** `docker://host/repository`, without tag. */
  readonly repository: string
  /** Plain HTTP, because the address said so. */
  readonly isPlain: boolean
  readonly mayPush: boolean
}

/** An entry, by its name in the cache. */
export interface EntryName {
  readonly stage: Stage
  readonly key: string
}

/** What the manifest's config tells of an entry. */
interface Description extends EntryName {
  readonly format: typeof FORMAT
  readonly files: Readonly<Record<string, { readonly sha256: string; readonly sizeBytes: number }>>
}

const FORMAT = 'osbuilder-cache-entry-1'
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json'
const CONFIG_TYPE = 'application/vnd.osbuilder.cache.entry.v1+json'
const FILE_TYPE = 'application/vnd.osbuilder.cache.file.v1+zstd'
const TITLE = 'org.opencontainers.image.title'

/** A file of an entry lies in the entry's folder itself. */
const FILE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/

/** A registry that does not answer must not hold a build. Unit: ms. */
const PATIENCE_MS = 10 * 60 * 1000

/** The registry that REMOTE_CACHE names, if any, and if anybody may be asked. */
export function remoteCache(
  settings: Pick<Settings, 'REMOTE_CACHE' | 'REMOTE_CACHE_PUSH' | 'OFFLINE'>,
): RemoteCache | undefined {
  if (settings.REMOTE_CACHE === '' || settings.OFFLINE) return undefined
  requireTools(['skopeo', 'zstd'])
  const address = settings.REMOTE_CACHE.replace(/\/+$/, '')
  return {
    repository: `docker://${address.replace(/^https?:\/\//, '')}`,
    isPlain: address.startsWith('http://'),
    mayPush: settings.REMOTE_CACHE_PUSH,
  }
}

/** Throws when the files in a folder are not what such an entry may have. */
export type CheckEntry = (name: EntryName, folder: string) => Promise<void>

/**
 * Take those entries from the registry that the cache lacks and the registry has.
 *
 * An entry is used when its files are what its description says, and that is of the key asked for.
 * Whatever goes wrong, the build goes on without: a cache is a convenience.
 *
 * @param check knows what may be in an entry
 */
export async function pullEntries(
  remote: RemoteCache | undefined,
  cacheDir: string,
  names: readonly EntryName[],
  check: CheckEntry,
): Promise<void> {
  if (remote === undefined) return
  for (const name of names) {
    if (findEntry(cacheDir, name.stage, name.key) !== undefined) continue
    try {
      if (await pull(remote, cacheDir, name, check)) note(`${name.stage} tree from ${shown(remote)}`)
    } catch (error) {
      warn(`${shown(remote)}: ${name.stage} tree not used: ${messageOf(error)}`)
    }
  }
}

/** Give the registry those entries of the cache that it lacks, when REMOTE_CACHE_PUSH allows it. */
export async function pushEntries(
  remote: RemoteCache | undefined,
  cacheDir: string,
  names: readonly EntryName[],
): Promise<void> {
  if (remote?.mayPush !== true) return
  for (const name of names) {
    const folder = findEntry(cacheDir, name.stage, name.key)
    if (folder === undefined) continue
    try {
      if (await isThere(remote, name)) continue
      await push(remote, folder, name)
      note(`${name.stage} tree stored in ${shown(remote)}`)
    } catch (error) {
      warn(`${shown(remote)}: ${name.stage} tree not stored: ${messageOf(error)}`)
    }
  }
}

function shown({ repository }: RemoteCache): string {
  return repository.replace('docker://', '')
}

function messageOf(error: unknown): string {
  if (!(error instanceof BuildError)) return String(error)
  // skopeo logs in fields; the last one is the message.
  return (error.because.at(-1) ?? error.message).replace(/^time=.*? msg=/, '').slice(0, 300)
}

function tagged(remote: RemoteCache, { stage, key }: EntryName): string {
  return `${remote.repository}:${stage}-${key}`
}

async function isThere(remote: RemoteCache, name: EntryName): Promise<boolean> {
  const argv = ['skopeo', 'inspect', '--raw', `--tls-verify=${String(!remote.isPlain)}`, tagged(remote, name)]
  try {
    await capture(argv, { timeoutMs: PATIENCE_MS })
    return true
  } catch (error) {
    if (/manifest unknown|name unknown|not found/i.test(wordsOf(error))) return false
    throw error
  }
}

function wordsOf(error: unknown): string {
  return error instanceof BuildError ? error.because.join('\n') : ''
}

/** Source: the OCI image layout and image manifest, v1.0. */
async function push(remote: RemoteCache, folder: string, name: EntryName): Promise<void> {
  const layout = temporaryFor(`${folder}.push`)
  try {
    const blobs = join(layout, 'blobs', 'sha256')
    mkdirSync(blobs, { recursive: true })
    const files: Record<string, { sha256: string; sizeBytes: number }> = {}
    const layers: object[] = []
    for (const [file, digest] of readSeal(folder)) {
      files[file] = { sha256: digest, sizeBytes: statSync(join(folder, file)).size }
      const packed = join(blobs, 'packing')
      await run(['zstd', '-q', '-T0', '-3', '-f', join(folder, file), '-o', packed])
      layers.push({ ...asBlob(blobs, packed, FILE_TYPE), annotations: { [TITLE]: file } })
    }
    const description: Description = { format: FORMAT, ...name, files }
    const manifest = {
      schemaVersion: 2,
      mediaType: MANIFEST_TYPE,
      config: asBlob(blobs, textFile(blobs, description), CONFIG_TYPE),
      layers,
    }
    const index = { schemaVersion: 2, manifests: [asBlob(blobs, textFile(blobs, manifest), MANIFEST_TYPE)] }
    writeFileSync(join(layout, 'index.json'), JSON.stringify(index))
    writeFileSync(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
    await capture(
      [
        ['skopeo', '--insecure-policy', 'copy', '--quiet', '--preserve-digests'],
        [`--dest-tls-verify=${String(!remote.isPlain)}`, `oci:${layout}`, tagged(remote, name)],
      ].flat(),
      { timeoutMs: PATIENCE_MS },
    )
  } finally {
    discard(layout)
  }
}

function textFile(blobs: string, value: object): string {
  const file = join(blobs, 'writing')
  writeFileSync(file, JSON.stringify(value))
  return file
}

/** Give a file its name by digest. Returns its descriptor. */
function asBlob(blobs: string, file: string, mediaType: string): object {
  const digest = sha256File(file)
  renameSync(file, join(blobs, digest))
  return { mediaType, digest: `sha256:${digest}`, size: statSync(join(blobs, digest)).size }
}

/** False when the registry does not have it. */
async function pull(
  remote: RemoteCache,
  cacheDir: string,
  name: EntryName,
  check: CheckEntry,
): Promise<boolean> {
  if (!(await isThere(remote, name))) return false
  mkdirSync(join(cacheDir, name.stage), { recursive: true })
  const layout = temporaryFor(join(cacheDir, name.stage, `${name.key}.pull`))
  try {
    await capture(
      [
        ['skopeo', '--insecure-policy', 'copy', '--quiet', '--preserve-digests'],
        [`--src-tls-verify=${String(!remote.isPlain)}`, tagged(remote, name), `oci:${layout}:entry`],
      ].flat(),
      { timeoutMs: PATIENCE_MS },
    )
    const { files, blobOf } = readLayout(layout, name)
    await makeEntry(cacheDir, name.stage, name.key, async (entry) => {
      for (const [file, { sha256: digest }] of Object.entries(files)) {
        const unpacked = join(entry, file)
        await capture(['zstd', '-q', '-d', blobOf(file), '-o', unpacked])
        if (sha256File(unpacked) !== digest) throw broken(`${file} is not what the entry says of it`)
      }
      await check(name, entry)
    })
    return true
  } finally {
    discard(layout)
  }
}

interface Layout {
  readonly files: Description['files']
  /** Path of the packed file. */
  readonly blobOf: (file: string) => string
}

/** Read what came from a registry, which may be anything. skopeo has checked the digest of each blob. */
function readLayout(layout: string, name: EntryName): Layout {
  const blob = (digest: unknown): string => {
    const [, hex] = /^sha256:([0-9a-f]{64})$/.exec(String(digest)) ?? []
    if (hex === undefined) throw broken('its manifest names no digest')
    return join(layout, 'blobs', 'sha256', hex)
  }
  const read = (file: string): Table => {
    const value: unknown = JSON.parse(readFileSync(file, 'utf8'))
    if (!isTable(value)) throw broken('its manifest is none')
    return value
  }
  const [first] = listOf(read(join(layout, 'index.json'))['manifests'])
  const manifest = read(blob(first?.['digest']))
  const config = isTable(manifest['config']) ? manifest['config'] : {}
  const description = read(blob(config['digest']))
  if (description['format'] !== FORMAT) throw broken(`its format is ${String(description['format'])}`)
  if (description['stage'] !== name.stage || description['key'] !== name.key) {
    throw broken('it is the entry of another fingerprint')
  }
  const files = isTable(description['files']) ? (description['files'] as Description['files']) : {}
  const layers = new Map(
    listOf(manifest['layers']).map((layer) => [
      isTable(layer['annotations']) ? String(layer['annotations'][TITLE]) : '',
      layer['digest'],
    ]),
  )
  for (const file of Object.keys(files)) {
    if (!FILE_NAME.test(file) || !layers.has(file)) throw broken(`it names a file ${JSON.stringify(file)}`)
  }
  return { files, blobOf: (file) => blob(layers.get(file)) }
}

type Table = Readonly<Record<string, unknown>>

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function listOf(value: unknown): Table[] {
  return Array.isArray(value) ? value.filter(isTable) : []
}

function broken(why: string): BuildError {
  return new BuildError('E_INPUT', 'the entry is not sound', { because: [why] })
}
