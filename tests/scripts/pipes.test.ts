// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { startCollector, startFilter } from '../../scripts/pipes.ts'

const FAILING = ['sh', '-c', 'cat >/dev/null; echo bad >&2; exit 1'] as const

t.test('a filter reads a stream and writes a file', async (t) => {
  const file = join(t.testdir(), 'out')
  const filter = startFilter(['tr', 'a-z', 'A-Z'], file)
  filter.stdin.end('text')
  await filter.done
  t.equal(readFileSync(file, 'utf8'), 'TEXT')
})

t.test('what a filter writes is a new file', async (t) => {
  const folder = t.testdir({ other: 'of somebody else' })
  symlinkSync(join(folder, 'other'), join(folder, 'link'))
  t.throws(() => startFilter(['cat'], join(folder, 'link')), { code: 'EEXIST' })
  t.equal(readFileSync(join(folder, 'other'), 'utf8'), 'of somebody else')
  t.throws(() => startFilter(['no-such-tool'], join(folder, 'out')), { code: 'E_TOOL_MISSING' })
  t.notOk(existsSync(join(folder, 'out')))
})

t.test('a collector keeps what the tool writes, however much', async (t) => {
  const collector = startCollector(['cat'])
  const bytes = Buffer.alloc(3_000_000, 'some text')
  collector.stdin.end(bytes)
  t.ok(Buffer.concat(await collector.done).equals(bytes))
})

t.test('a filter that fails says why', async (t) => {
  const file = join(t.testdir(), 'out')
  for (const { stdin, done } of [startFilter(FAILING, file), startCollector(FAILING)]) {
    stdin.end('text')
    const failing = done.then(() => undefined)
    await t.rejects(failing, { code: 'E_COMMAND', because: [/command/, 'bad'] })
  }
})
