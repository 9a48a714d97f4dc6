// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'

import { run } from './run.ts'
import { discard, temporaryFor } from './temporary.ts'

/** What unpacks to stdout, by the ending of what it unpacks. A long list of Debian's is two blocks, for two threads. */
const TOOLS: Readonly<Record<string, readonly [string, ...string[]]>> = {
  '.xz': ['xz', '--threads=0'],
  '.zst': ['zstd'],
}

let unpacked = 0

/**
 * Content of a list of packages, which may be compressed.
 *
 * @param name tells by its ending how: .gz, .xz, .zst, else not at all
 * @param cacheDir has it unpacked for the moment, where the next build finds what a killed one left
 */
export async function unpackedFile(file: string, name: string, cacheDir: string): Promise<Buffer> {
  if (toolFor(name) === undefined) return plainContent(file, name)
  const folder = join(cacheDir, 'index')
  mkdirSync(folder, { recursive: true })
  // Two suites may have the same list, and be read at once.
  const plain = temporaryFor(join(folder, `unpacked-${String((unpacked += 1))}`))
  try {
    await unpackFile(file, name, plain)
    return readFileSync(plain)
  } finally {
    discard(plain)
  }
}

/** Unpack a list as unpackedFile does, into a file. */
export async function unpackFile(file: string, name: string, target: string): Promise<void> {
  const tool = toolFor(name)
  if (tool === undefined) writeFileSync(target, plainContent(file, name))
  else await run([...tool, '--decompress', '--stdout', file], { stdoutFile: target })
}

function toolFor(name: string): readonly [string, ...string[]] | undefined {
  return TOOLS[/\.\w+$/.exec(name)?.[0] ?? '']
}

function plainContent(file: string, name: string): Buffer {
  const content = readFileSync(file)
  return name.endsWith('.gz') ? gunzipSync(content) : content
}
