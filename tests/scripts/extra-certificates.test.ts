// SPDX-License-Identifier: Apache-2.0
// NODE_EXTRA_CA_CERTS as the Makefile hands it on: a server whose certificate nobody but this machine knows.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import { connect } from 'node:net'
import type { AddressInfo, Server } from 'node:net'
import { join } from 'node:path'

import t from 'tap'

import { RETRY_WAITS_MS, fetchSmall } from '../../scripts/download.ts'

for (const name of ['http_proxy', 'https_proxy', 'no_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'])
  delete process.env[name]

// The waits between tries, and nothing else, pass a hundred times as fast.
const realTimeout = globalThis.setTimeout
globalThis.setTimeout = ((work: () => void, ms: number = 0, ...rest: []) =>
  realTimeout(work, RETRY_WAITS_MS.includes(ms) ? ms / 100 : ms, ...rest)) as typeof setTimeout

const dir = t.testdir()
const [known, stranger] = [makeCertificate('known'), makeCertificate('stranger')]
const [secure, unknown] = [await serve(known), await serve(stranger)]
const plain = await listen(
  createServer((request, response) => {
    if (request.url === '/moved')
      response.writeHead(302, { location: `https://127.0.0.1:${secure}/file` }).end()
    else response.end('open')
  }),
)
let tunnels = 0
const proxy = await listen(
  createServer().on('connect', (_, socket) => {
    tunnels += 1
    const onward = connect(Number(secure), '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
      onward.pipe(socket).pipe(onward)
    })
    for (const end of [socket, onward]) end.on('error', () => undefined)
  }),
)

function makeCertificate(name: string): { readonly key: Buffer; readonly cert: Buffer } {
  const [key, cert] = [join(dir, `${name}-key.pem`), join(dir, `${name}.pem`)]
  const asked = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=${name}
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout ${key} -out ${cert}`
  execFileSync('openssl', asked.split(/\s+/), { stdio: 'ignore' })
  return { key: readFileSync(key), cert: readFileSync(cert) }
}

async function serve(pair: ReturnType<typeof makeCertificate>): Promise<string> {
  return listen(createSecureServer(pair, (_, response) => response.end('private')))
}

async function listen(server: Server): Promise<string> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => {
    if ('closeAllConnections' in server) (server.closeAllConnections as () => void)()
    server.close()
  })
  return String((server.address() as AddressInfo).port)
}

t.test('certificates of the user', async (t) => {
  const extraFile = join(dir, 'extra.pem')
  process.env['OSBUILDER_EXTRA_CA_CERTS'] = extraFile
  process.env['https_proxy'] = `http://127.0.0.1:${proxy}`
  process.env['no_proxy'] = '127.0.0.1'

  const open = await fetchSmall(`http://127.0.0.1:${plain}/file`)
  t.equal(open.found && open.content.toString(), 'open', 'http needs none, not even the file')

  const address = `https://127.0.0.1:${secure}/file`
  const refused = {
    code: 'E_CONFIG',
    exitStatus: 78,
    message: /^NODE_EXTRA_CA_CERTS ".*extra\.pem" cannot be read/,
  }
  await t.rejects(fetchSmall(address), refused, 'https says that the file is missing')
  writeFileSync(extraFile, 'no certificate')
  await t.rejects(fetchSmall(address), refused, 'or that it is none')

  writeFileSync(extraFile, known.cert)
  const answer = await fetchSmall(address)
  t.equal(answer.found && answer.content.toString(), 'private')
  const moved = await fetchSmall(`http://127.0.0.1:${plain}/moved`)
  t.equal(moved.found && moved.content.toString(), 'private', 'a redirection from http to https')
  t.equal(tunnels, 0)
  const through = await fetchSmall(`https://localhost:${secure}/file`)
  t.equal(through.found && through.content.toString(), 'private', 'through a proxy')
  t.equal(tunnels, 1)

  const hint = /^NODE_EXTRA_CA_CERTS=FILE /
  await t.rejects(fetchSmall(`https://127.0.0.1:${unknown}/file`), { code: 'E_NETWORK', hint }, 'a stranger')
})
