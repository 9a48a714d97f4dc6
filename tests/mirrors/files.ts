// SPDX-License-Identifier: Apache-2.0
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

import type { Test } from 'tap'

export interface FileServer {
  readonly url: string
  /** Paths that were asked for, each with its range when it had one. */
  readonly asked: readonly string[]
  /** Cut the next answer after so many bytes. */
  readonly cutOnce: (afterBytes: number) => void
}

/** Serve files on this machine until the test ends; ranges are understood. */
export async function serveFiles(
  t: Test,
  files: Readonly<Record<string, Buffer | string>>,
): Promise<FileServer> {
  const asked: string[] = []
  let cut = 0
  const server = createServer((request, response) => {
    const range = request.headers.range
    asked.push([request.url ?? '', range].filter((word) => word !== undefined).join(' '))
    const file = files[request.url ?? '']
    if (file === undefined) {
      response.writeHead(404).end()
      return
    }
    const whole = Buffer.from(file)
    const from = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0)
    if (from >= whole.length && range !== undefined) {
      response.writeHead(416).end()
      return
    }
    const body = whole.subarray(from)
    response.writeHead(range === undefined ? 200 : 206, { 'content-length': body.length })
    if (cut > 0) {
      response.write(body.subarray(0, cut), () => setTimeout(() => response.destroy(), 50))
      cut = 0
    } else response.end(body)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    url: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`,
    asked,
    cutOnce: (afterBytes) => {
      cut = afterBytes
    },
  }
}
