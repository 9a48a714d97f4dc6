// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import { closeSync, openSync, readFileSync, readSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

import { BuildError, errnoOf } from './errors.ts'
import { BUILD_ROOT } from './paths.ts'
import { compareBytes } from './tree.ts'

const CHUNK_BYTES = 1024 * 1024

/** What files are read into, one after the other: memory for each of a hundred files would be garbage soon. */
let chunk: Buffer | undefined

/** sha256 of a text or of bytes, in hex. */
export function sha256(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}

/**
 * sha256 of a file's content, in hex.
 *
 * @throws BuildError E_INPUT when it cannot be read
 */
export function sha256File(file: string): string {
  const hash = createHash('sha256')
  const buffer = (chunk ??= Buffer.allocUnsafeSlow(CHUNK_BYTES))
  const descriptor = openInput(file)
  try {
    for (;;) {
      const count = readSync(descriptor, buffer, 0, buffer.length, null)
      if (count === 0) return hash.digest('hex')
      hash.update(buffer.subarray(0, count))
    }
  } finally {
    closeSync(descriptor)
  }
}

function openInput(file: string): number {
  try {
    return openSync(file, 'r')
  } catch (error) {
    throw new BuildError('E_INPUT', `${file}: cannot be read (${errnoOf(error) ?? 'unknown error'})`, {
      cause: error,
    })
  }
}

/** A value that JSON can carry. */
export type Json =
  string | number | boolean | null | undefined | readonly Json[] | { readonly [key: string]: Json }

/** Digest of a value that does not depend on the order of its keys. */
export function fingerprint(value: Json): string {
  return sha256(canonical(value))
}

function canonical(value: Json): string {
  // By far the most common, a path or a number in a list of thousands.
  if (typeof value === 'string' || typeof value === 'number') return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map((item: Json) => canonical(item)).join(',')}]`
  if (typeof value === 'object' && value !== null) {
    const pairs = Object.entries(value as Record<string, Json>)
      .filter(([, item]) => item !== undefined)
      .sort(([a], [b]) => compareBytes(a, b))
    return `{${pairs.map(([key, item]) => `${JSON.stringify(key)}:${canonical(item)}`).join(',')}}`
  }
  return JSON.stringify(value ?? null)
}

/** Digest of the compiled code in the given folders of the build (not of folders below them). */
export function codeDigest(folders: readonly string[]): string {
  const hash = createHash('sha256')
  for (const folder of folders) {
    const names = readdirSync(join(BUILD_ROOT, folder)).filter((name) => name.endsWith('.js'))
    for (const name of names.sort(compareBytes)) {
      hash.update(`${folder}/${name}\0`)
      hash.update(readFileSync(join(BUILD_ROOT, folder, name)))
    }
  }
  return hash.digest('hex')
}
