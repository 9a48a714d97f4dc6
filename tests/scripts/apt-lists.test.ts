// SPDX-License-Identifier: Apache-2.0
import { execFile, execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'

import t from 'tap'

import { fetchPackageLists, readListText } from '../../scripts/apt-lists.ts'
import { sha256 } from '../../scripts/digest.ts'
import { BUILD_ROOT } from '../../scripts/paths.ts'
import { serveFiles } from '../mirrors/files.ts'

for (const name of ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY']) delete process.env[name]

t.test('suites and components with the same list get it at once, from one download', async (t) => {
  const content = 'Package: one\nDescription: caf\u00e9\n'
  const list = execFileSync('xz', ['--stdout'], { input: content })
  const digest = sha256(list)
  const path = (component: string): string => `${component}/binary-amd64/Packages.xz`
  const rows = ['main', 'other'].map((component) => ` ${digest} ${String(list.length)} ${path(component)}`)
  const text = `Architectures: amd64\nSHA256:\n${rows.join('\n')}\n`
  const suites = ['stable', 'updates']
  const server = await serveFiles(
    t,
    Object.fromEntries(
      suites.flatMap((suite) => ['main', 'other'].map((name) => [`/dists/${suite}/${path(name)}`, list])),
    ),
  )
  const cacheDir = t.testdir()
  const of = { components: ['main', 'other'], debianArch: 'amd64', cacheDir }
  const lists = await Promise.all(
    suites.map((suite) => fetchPackageLists({ suite, url: server.url }, text, of)),
  )
  t.equal(server.asked.length, 1)
  const texts = await Promise.all(lists.flat().map((one) => readListText(one, cacheDir)))
  t.equal(texts.length, 4)
  for (const one of texts) t.equal(Buffer.from(one, 'latin1').toString(), content)
  t.equal(readdirSync(join(cacheDir, 'mirror')).length, 1, 'one is kept, and nothing else is left')
  t.same(await Promise.all(lists.flat().map((one) => readListText(one, cacheDir))), texts)
})

t.test('several builds at once each get the list whole', async (t) => {
  // Large and not to be compressed: the downloads overlap.
  const list = randomBytes(8_000_000)
  const text = `Suite: stable\nSHA256:\n ${sha256(list)} ${String(list.length)} main/binary-amd64/Packages\n`
  const server = await serveFiles(t, { '/dists/stable/main/binary-amd64/Packages': list })
  const of = { components: ['main'], debianArch: 'amd64', cacheDir: t.testdir() }
  const lists = pathToFileURL(join(BUILD_ROOT, 'scripts/apt-lists.js')).href
  const script = [
    `import { fetchPackageLists, readListText } from ${JSON.stringify(lists)}`,
    `const [list] = await fetchPackageLists(${JSON.stringify({ suite: 'stable', url: server.url })}, ${JSON.stringify(text)}, ${JSON.stringify(of)})`,
    `process.stdout.write(String((await readListText(list, ${JSON.stringify(of.cacheDir)})).length))`,
  ].join('\n')
  const builds = Array.from({ length: 5 }, () =>
    promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script]),
  )
  for (const { stdout } of await Promise.all(builds)) t.equal(stdout, '8000000')
  t.strictSame(readdirSync(of.cacheDir), ['mirror', 'package'])
  for (const stage of ['mirror', 'package'])
    t.equal(readdirSync(join(of.cacheDir, stage)).length, 1, 'nothing else is left')
})

t.test('one failure is told to all who wait for a list', async (t) => {
  const server = await serveFiles(t, {})
  const text = `Suite: stable\nSHA256:\n ${sha256('')} 0 main/binary-amd64/Packages\n`
  const of = { components: ['main', 'main'], debianArch: 'amd64', cacheDir: t.testdir() }
  await t.rejects(fetchPackageLists({ suite: 'stable', url: server.url }, text, of), { code: 'E_NETWORK' })
  await t.rejects(fetchPackageLists({ suite: 'stable', url: server.url }, text, of), { code: 'E_NETWORK' })
  t.equal(server.asked.length, 2, 'and it is asked for again later')
})
