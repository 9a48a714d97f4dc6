// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'

import { run } from './run.ts'
import { discard, temporaryFor } from './temporary.ts'

/** Tools that unpack to stdout, by the ending of what they unpack. */
const TOOLS: Readonly<Record<string, string>> = { '.xz': 'xz', '.zst': 'zstd' }

let unpacked = 0

/**
 * Content of a list of packages, which may be compressed.
 *
 * @param name tells by its ending how: .gz, .xz, .zst, else not at all
 * @param cacheDir has it unpacked for the moment, where the next build finds what a killed one left
 */
export async function unpackedFile(file: string, name: string, cacheDir: string): Promise<Buffer> {
  if (name.endsWith('.gz')) return gunzipSync(readFileSync(file))
  const tool = TOOLS[/\.\w+$/.exec(name)?.[0] ?? '']
  if (tool === undefined) return readFileSync(file)
  const folder = join(cacheDir, 'index')
  mkdirSync(folder, { recursive: true })
  // Two suites may have the same list, and be read at once.
  const plain = temporaryFor(join(folder, `unpacked-${String((unpacked += 1))}`))
  try {
    await run([tool, '--decompress', '--stdout', file], { stdoutFile: plain })
    return readFileSync(plain)
  } finally {
    discard(plain)
  }
}
