// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'

import { PROJECT } from '../system/user.ts'

/** The archive that is passed on; a mirror near the tester may stand in for it. */
const ORIGIN = process.env['TEST_MIRROR'] ?? 'http://deb.debian.org/debian'

/** What came from there once is kept, so that a test costs the network once. */
const KEPT = join(PROJECT, 'workdir', 'test-mirror')

/** How one answer goes wrong. */
export type Fault =
  | { readonly kind: 'cut'; readonly afterBytes: number; times: number }
  | { readonly kind: 'change'; readonly to: (body: Buffer) => Buffer }
  | { readonly kind: 'status'; readonly status: number }

export interface Mirror {
  /** For REPO_URL. */
  readonly url: string
  /** Paths that match get the fault, until `heal`. */
  readonly fault: (path: RegExp, fault: Fault) => void
  readonly heal: () => void
  /** Paths that were asked for, in order. */
  readonly asked: readonly string[]
  readonly close: () => Promise<void>
}

/** Serve Debian's archive on 127.0.0.1, with the faults a test asks for. */
export async function startMirror(): Promise<Mirror> {
  const faults: [RegExp, Fault][] = []
  const asked: string[] = []
  const server = createServer((request, response) => {
    answer(request, response, { faults, asked }).catch((error: unknown) => {
      response.destroy(error instanceof Error ? error : new Error(String(error)))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${String(port)}/debian`,
    fault: (path, fault) => {
      faults.push([path, fault])
    },
    heal: () => {
      faults.length = 0
    },
    asked,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => {
          resolve()
        })
      }),
  }
}

interface Shared {
  readonly faults: readonly [RegExp, Fault][]
  readonly asked: string[]
}

async function answer(request: IncomingMessage, response: ServerResponse, shared: Shared): Promise<void> {
  const path = request.url ?? '/'
  shared.asked.push(path)
  const fault = shared.faults.find(([pattern]) => pattern.test(path))?.[1]
  if (!path.startsWith('/debian/') || fault?.kind === 'status') {
    response.writeHead(fault?.kind === 'status' ? fault.status : 404).end()
    return
  }
  const found = await fromOrigin(path.slice('/debian/'.length))
  if (found === undefined) {
    response.writeHead(404).end()
    return
  }
  const body = fault?.kind === 'change' ? fault.to(found) : found
  response.writeHead(200, { 'content-length': body.length, 'content-type': 'application/octet-stream' })
  if (fault?.kind === 'cut' && fault.times > 0) {
    fault.times -= 1
    response.write(body.subarray(0, fault.afterBytes), () => response.destroy())
    return
  }
  response.end(body)
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

/** The same bytes, one of them changed. */
export function oneByteChanged(body: Buffer): Buffer {
  const copy = Buffer.from(body)
  const middle = Math.floor(copy.length / 2)
  copy[middle] = (copy[middle] ?? 0) ^ 1
  return copy
}
