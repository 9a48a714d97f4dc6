// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { PROJECT } from '../system/user.ts'
import { serve } from './server.ts'
import type { Mirror } from './server.ts'

/** The archive that is passed on; a mirror near the tester may stand in for it. */
const ORIGIN = process.env['TEST_MIRROR'] ?? 'http://deb.debian.org/debian'

/** What came from there once is kept, so that a test costs the network once. */
const KEPT = join(PROJECT, 'workdir', 'test-mirror')

/** Serve Debian's archive on an address of this host, with the faults a test asks for. */
export function startMirror(address?: string): Promise<Mirror> {
  return serve('debian', fromOrigin, address)
}

async function fromOrigin(path: string): Promise<Buffer | undefined> {
  const url = `${ORIGIN}/${path}`
  const file = join(KEPT, createHash('sha256').update(url).digest('hex'))
  // Indexes change under their names, packages do not; within a day the former need not be asked again.
  const name = path.startsWith('dists/') ? `${file}-${new Date().toISOString().slice(0, 10)}` : file
  if (existsSync(name)) return readFileSync(name)
  for (let attempt = 0; ; attempt += 1) {
    try {
      const reply = await fetch(url)
      if (reply.status === 404) return undefined
      if (!reply.ok) throw new Error(`${url}: ${String(reply.status)}`)
      const body = Buffer.from(await reply.arrayBuffer())
      mkdirSync(KEPT, { recursive: true })
      const partial = `${name}.${String(process.pid)}.${String(Math.random())}`
      writeFileSync(partial, body)
      renameSync(partial, name)
      return body
    } catch (error) {
      if (attempt === 2) throw error
    }
  }
}
