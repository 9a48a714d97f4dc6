// SPDX-License-Identifier: Apache-2.0
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

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

/**
 * Serve files on an address of this host, with the faults a test asks for.
 *
 * @param name first part of every path, such as `debian`
 * @param find content by the rest of the path; undefined when there is none
 */
export async function serve(
  name: string,
  find: (path: string) => Promise<Buffer | undefined>,
  address: string = '127.0.0.1',
): Promise<Mirror> {
  const faults: [RegExp, Fault][] = []
  const asked: string[] = []
  const server = createServer((request, response) => {
    answer(request, response, { name, find, faults, asked }).catch((error: unknown) => {
      response.destroy(error instanceof Error ? error : new Error(String(error)))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, address, resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://${address}:${String(port)}/${name}`,
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
  readonly name: string
  readonly find: (path: string) => Promise<Buffer | undefined>
  readonly faults: readonly [RegExp, Fault][]
  readonly asked: string[]
}

async function answer(request: IncomingMessage, response: ServerResponse, shared: Shared): Promise<void> {
  // apt asks for a colon of a version in its escaped form.
  const path = decodeURIComponent(request.url ?? '/')
  shared.asked.push(path)
  const fault = shared.faults.find(([pattern]) => pattern.test(path))?.[1]
  const prefix = `/${shared.name}/`
  if (!path.startsWith(prefix) || fault?.kind === 'status') {
    response.writeHead(fault?.kind === 'status' ? fault.status : 404).end()
    return
  }
  const found = await shared.find(path.slice(prefix.length))
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

/** The same bytes, one of them changed. */
export function oneByteChanged(body: Buffer): Buffer {
  const copy = Buffer.from(body)
  const middle = Math.floor(copy.length / 2)
  copy[middle] = (copy[middle] ?? 0) ^ 1
  return copy
}
