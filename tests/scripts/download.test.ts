// SPDX-License-Identifier: Apache-2.0
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'

import t from 'tap'
import type { Test } from 'tap'

import { fetchSmall } from '../../scripts/download.ts'
import { inParallel } from '../../scripts/package-lock/locked-file.ts'

for (const name of ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY']) delete process.env[name]

// The waits between tries, and nothing else, pass a hundred times as fast.
const realTimeout = globalThis.setTimeout
globalThis.setTimeout = ((work: () => void, ms: number = 0, ...rest: []) =>
  realTimeout(work, [300, 1000, 3000].includes(ms) ? ms / 100 : ms, ...rest)) as typeof setTimeout

/** A server on this machine; its address, how often it was asked, and over how many connections. */
async function serve(t: Test, listener: (count: number) => RequestListener) {
  let asked = 0
  const server = createServer((request, response) => {
    asked += 1
    void listener(asked)(request, response)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  let connections = 0
  server.on('connection', () => (connections += 1))
  return {
    url: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/file`,
    asked: () => asked,
    connections: () => connections,
  }
}

t.test('a file is fetched whole', async (t) => {
  const content = Buffer.alloc(300_000, 'x')
  const { url, asked } = await serve(t, () => (_, response) => response.end(content))
  const answer = await fetchSmall(url)
  t.ok(answer.found && answer.content.equals(content))
  t.equal(asked(), 1)
})

t.test('many files are fetched over few connections', async (t) => {
  const { url, asked, connections } = await serve(t, () => (_, response) => response.end('content'))
  await inParallel([...Array(40).keys()], 4, () => fetchSmall(url))
  t.equal(asked(), 40)
  t.ok(connections() <= 10, `${String(connections())} connections`)
})

t.test('a connection that is cut, before or within the answer, is tried again', async (t) => {
  const { url, asked } = await serve(t, (count) => (request, response) => {
    if (count === 1) request.socket.destroy()
    else if (count === 2) {
      response.writeHead(200, { 'content-length': '100' })
      response.write('half', () => request.socket.destroy())
    } else response.end('whole')
  })
  const answer = await fetchSmall(url)
  t.equal(answer.found && answer.content.toString(), 'whole')
  t.equal(asked(), 3)
})

t.test('a file the server does not have is no failure and is not tried again', async (t) => {
  const { url, asked } = await serve(t, () => (_, response) => response.writeHead(404).end('no'))
  t.strictSame(await fetchSmall(url), { found: false, status: 404 })
  t.equal(asked(), 1)
})

t.test('a server that keeps failing is asked four times and then told', async (t) => {
  const { url, asked } = await serve(t, () => (_, response) => response.writeHead(503).end())
  await t.rejects(fetchSmall(url), { code: 'E_NETWORK', exitStatus: 75, because: [/status 503 \(4 tries\)/] })
  t.equal(asked(), 4)
})

t.test('a server that recovers is enough', async (t) => {
  const { url } = await serve(
    t,
    (count) => (_, response) => response.writeHead(count < 3 ? 500 : 200).end('well'),
  )
  const answer = await fetchSmall(url)
  t.equal(answer.found && answer.content.toString(), 'well')
})

t.test('a port where nobody listens is told with the address', async (t) => {
  await t.rejects(fetchSmall('http://127.0.0.1:1/file'), {
    code: 'E_NETWORK',
    message: /^http:\/\/127\.0\.0\.1:1\/file: /,
  })
})

t.test('a redirection is followed, and not taken for a file that is not there', async (t) => {
  const { url } = await serve(t, (count) => (_, response) => {
    if (count === 1) response.writeHead(302, { location: '/elsewhere' }).end()
    else response.end('moved')
  })
  const answer = await fetchSmall(url)
  t.equal(answer.found && answer.content.toString(), 'moved')
})
