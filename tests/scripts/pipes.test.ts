// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { startCollector, startFilter, startWorker } from '../../scripts/pipes.ts'

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

const ECHOING =
  'while IFS= read -r -d \'\' word; do [ "$word" != bad ] || { echo no >&2; exit 3; }; echo; done'

t.test('a worker does one thing after another, and tells of each', async (t) => {
  const worker = startWorker(['bash', '--norc', '-c', ECHOING])
  const done: string[] = []
  const ask = (word: string) => worker.ask(word).then(() => done.push(word))
  await Promise.all([ask('one'), ask('two words\nand a line'), ask('three')])
  await ask('four')
  t.strictSame(done, ['one', 'two words\nand a line', 'three', 'four'])
  worker.end()
})

t.test('a worker that fails is told to all who wait, and to those who ask later', async (t) => {
  const worker = startWorker(['bash', '--norc', '-c', ECHOING])
  await worker.ask('good')
  const asked = [worker.ask('bad'), worker.ask('good')]
  for (const one of asked) await t.rejects(one, { code: 'E_COMMAND', because: [/command/, 'no'] })
  await t.rejects(worker.ask('good'), { code: 'E_COMMAND' })
  const early = startWorker(['true'])
  await t.rejects(early.ask('good'), { code: 'E_COMMAND', message: /ended too early/ })
})
