// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { sha256, sha256File } from '../digest.ts'
import { BuildError } from '../errors.ts'
import { writeWhole } from '../temporary.ts'

/**
 * A folder with everything that a lock names, laid out as an OCI image: a blob per file, by its digest, and
 * a manifest that tells their names. skopeo copies it to a registry and back.
 *
 * Source: the OCI image layout and image manifest, v1.1.
 */
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json'
const CONFIG_TYPE = 'application/vnd.osbuilder.vendor.config.v1+json'
const FILE_TYPE = 'application/vnd.osbuilder.vendor.file.v1'
const TITLE = 'org.opencontainers.image.title'
const REFERENCE = 'org.opencontainers.image.ref.name'

/** A file of the folder, by the name it is found under. */
export interface VendoredFile {
  readonly title: string
  readonly sha256: string
}

/** Path of a file in the folder, by its digest. */
export function blobPath(folder: string, digest: string): string {
  return join(folder, 'blobs', 'sha256', digest)
}

/** True for a folder that writeLayout made. */
export function isLayout(folder: string): boolean {
  return existsSync(join(folder, 'oci-layout')) && existsSync(join(folder, 'index.json'))
}

/**
 * Write what makes the blobs a layout, and remove blobs that it does not name.
 *
 * @param files all of them, whose blobs are there
 * @param missing digests of signed indexes that nobody has any more
 */
export function writeLayout(
  folder: string,
  files: readonly VendoredFile[],
  missing: readonly string[],
): void {
  mkdirSync(join(folder, 'blobs', 'sha256'), { recursive: true })
  const config = writeBlob(folder, { format: 'osbuilder-vendor-1', missing }, CONFIG_TYPE)
  const seen = new Set<string>()
  const layers = files
    .filter((file) => !seen.has(nameOf(file)) && seen.add(nameOf(file)))
    .map(({ title, sha256: digest }) => ({
      ...describe(folder, digest, FILE_TYPE),
      annotations: { [TITLE]: title },
    }))
  const manifest = writeBlob(
    folder,
    { schemaVersion: 2, mediaType: MANIFEST_TYPE, config, layers },
    MANIFEST_TYPE,
  )
  const named = { ...manifest, annotations: { [REFERENCE]: 'vendor' } }
  writeWhole(join(folder, 'index.json'), `${JSON.stringify({ schemaVersion: 2, manifests: [named] })}\n`)
  writeWhole(join(folder, 'oci-layout'), `${JSON.stringify({ imageLayoutVersion: '1.0.0' })}\n`)
  const kept = new Set([config, manifest, ...layers].map(({ digest }) => digest.slice('sha256:'.length)))
  for (const name of readdirSync(join(folder, 'blobs', 'sha256'))) {
    if (!kept.has(name)) rmSync(blobPath(folder, name), { force: true })
  }
}

/** Two locked guests may have different indexes of one name. */
function nameOf({ title, sha256: digest }: VendoredFile): string {
  return `${title} ${digest}`
}

function writeBlob(folder: string, value: object, mediaType: string): Descriptor {
  const text = JSON.stringify(value)
  const digest = sha256(text)
  writeWhole(blobPath(folder, digest), text)
  return describe(folder, digest, mediaType)
}

interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

function describe(folder: string, digest: string, mediaType: string): Descriptor {
  return { mediaType, digest: `sha256:${digest}`, size: statSync(blobPath(folder, digest)).size }
}

/** A table of JSON that anybody may have written. */
type Table = Readonly<Record<string, unknown>>

function manifestOf(folder: string): Table {
  const [first] = tablesOf(read(join(folder, 'index.json'))['manifests'])
  return read(checkedBlob(folder, first?.['digest']))
}

/**
 * Path of a file that has no digest in the lock, by its name; undefined when it is not there.
 *
 * @throws BuildError E_DIGEST when it is not the file that the manifest names
 */
export function namedBlob(folder: string, title: string): string | undefined {
  if (!isLayout(folder)) return undefined
  const layer = tablesOf(manifestOf(folder)['layers']).find(
    ({ annotations }) => isTable(annotations) && annotations[TITLE] === title,
  )
  return layer === undefined ? undefined : checkedBlob(folder, layer['digest'])
}

/** Digests of signed indexes that could not be had when the folder was filled. */
export function missingFiles(folder: string): readonly string[] {
  if (!isLayout(folder)) return []
  const { config } = manifestOf(folder)
  const { missing } = read(checkedBlob(folder, isTable(config) ? config['digest'] : undefined))
  return Array.isArray(missing) ? missing.map(String) : []
}

function checkedBlob(folder: string, digest: unknown): string {
  const [, hex] = /^sha256:([0-9a-f]{64})$/.exec(String(digest)) ?? []
  const file = hex === undefined ? '' : blobPath(folder, hex)
  if (hex !== undefined && existsSync(file) && sha256File(file) === hex) return file
  throw changed(folder, hex === undefined ? 'its index names no digest' : `${file} is not what its name says`)
}

function read(file: string): Table {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw changed(file, error instanceof Error ? error.message : String(error))
  }
  if (isTable(value)) return value
  throw changed(file, 'it is no table')
}

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function tablesOf(value: unknown): Table[] {
  return Array.isArray(value) ? value.filter(isTable) : []
}

function changed(folder: string, why: string): BuildError {
  return new BuildError('E_DIGEST', `VENDOR_DIR: ${folder} was changed`, {
    because: [why],
    hint: 'run make vendor again, where there is a network',
  })
}
