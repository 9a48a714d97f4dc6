// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { sha256 } from '../../scripts/digest.ts'
import { fetchFile } from '../../scripts/fetch-file.ts'
import { serveFiles } from '../mirrors/files.ts'

for (const name of ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY']) delete process.env[name]

const CONTENT = Buffer.alloc(700_000, 'kernel')
const REQUEST = { digest: sha256(CONTENT), digestOrigin: 'the list', hint: 'look elsewhere' }

t.test('a file is fetched, kept, and not asked for again', async (t) => {
  const server = await serveFiles(t, { '/file': CONTENT })
  const target = join(t.testdir(), 'deep', 'file')
  await fetchFile({ ...REQUEST, url: `${server.url}/file`, target })
  await fetchFile({ ...REQUEST, url: `${server.url}/file`, target })
  t.ok(readFileSync(target).equals(CONTENT))
  t.strictSame(server.asked, ['/file'])
  t.notOk(existsSync(`${target}.partial`))
})

t.test('a cut download goes on where it ended', async (t) => {
  const server = await serveFiles(t, { '/file': CONTENT })
  server.cutOnce(300_000)
  const target = join(t.testdir(), 'file')
  await fetchFile({ ...REQUEST, url: `${server.url}/file`, target })
  t.ok(readFileSync(target).equals(CONTENT))
  const from = Number(/ bytes=(\d+)-$/.exec(server.asked[1] ?? '')?.[1])
  t.ok(from > 0 && from <= 300_000, `the rest only: ${String(server.asked[1])}`)
})

t.test('what another process left is gone on with; what is of another file is thrown away', async (t) => {
  const server = await serveFiles(t, { '/file': CONTENT })
  const folder = t.testdir({ left: '', other: '' })
  writeFileSync(join(folder, 'left.partial'), CONTENT.subarray(0, 1000))
  await fetchFile({ ...REQUEST, url: `${server.url}/file`, target: join(folder, 'left') })
  t.strictSame(server.asked, ['/file bytes=1000-'])
  writeFileSync(join(folder, 'other.partial'), 'something else')
  await fetchFile({ ...REQUEST, url: `${server.url}/file`, target: join(folder, 'other') })
  t.ok(readFileSync(join(folder, 'other')).equals(CONTENT))
  writeFileSync(join(folder, 'whole.partial'), CONTENT)
  await fetchFile({ ...REQUEST, url: `${server.url}/file`, target: join(folder, 'whole') })
  t.ok(readFileSync(join(folder, 'whole')).equals(CONTENT), 'nothing was left to fetch')
})

t.test('another file than the expected one is refused, and not kept', async (t) => {
  const server = await serveFiles(t, { '/file': Buffer.from('malice') })
  const target = join(t.testdir(), 'file')
  await t.rejects(fetchFile({ ...REQUEST, url: `${server.url}/file`, target }), {
    code: 'E_DIGEST',
    exitStatus: 65,
    message: 'file: is not the expected file',
    because: [/expected: [0-9a-f]{64} +\(the list\)/, /received: [0-9a-f]{64} +\(http/],
    hint: 'look elsewhere',
  })
  t.notOk(existsSync(target))
  t.notOk(existsSync(`${target}.partial`))
})

t.test('a file that is not there is told at once', async (t) => {
  const server = await serveFiles(t, {})
  const request = { ...REQUEST, url: `${server.url}/gone`, target: join(t.testdir(), 'gone') }
  await t.rejects(fetchFile(request), { code: 'E_NETWORK', message: /no such file \(status 404\)/ })
  t.equal(server.asked.length, 1)
})
