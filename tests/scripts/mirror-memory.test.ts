// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { BuildError } from '../../scripts/errors.ts'
import { remembered } from '../../scripts/mirror-memory.ts'
import type { MemoryRequest } from '../../scripts/mirror-memory.ts'

const DAY_MS = 24 * 60 * 60 * 1000

interface Answer {
  readonly checkedAtMs: number
  readonly said: string
}

function answer(nowMs: number, said: string): () => Promise<Answer> {
  return () => Promise.resolve({ checkedAtMs: nowMs, said })
}

const unreachable = (): Promise<Answer> => Promise.reject(new BuildError('E_NETWORK', 'nobody answers'))

t.test('a mirror is asked once a day, always or never again, as REFRESH says', async (t) => {
  const cacheDir = t.testdir()
  const ask = async (nowMs: number, refresh: MemoryRequest['refresh'], said: string): Promise<string> =>
    (await remembered({ cacheDir, key: 'k', refresh, nowMs }, answer(nowMs, said))).said
  t.equal(await ask(1000, 'never', 'first'), 'first', 'when nothing is known it must be')
  t.equal(await ask(1000 + DAY_MS - 1, 'daily', 'second'), 'first')
  t.equal(await ask(1000 + 9 * DAY_MS, 'never', 'third'), 'first')
  t.equal(await ask(2000, 'always', 'fourth'), 'fourth')
  t.equal(await ask(2000 + DAY_MS, 'daily', 'fifth'), 'fifth')
  t.equal(await ask(1500, 'daily', 'sixth'), 'sixth', 'an answer of the future is not trusted')
})

t.test('what was said last stands in for a mirror that is down, unless it must be asked', async (t) => {
  const cacheDir = t.testdir()
  const request = { cacheDir, key: 'k', nowMs: 5 * DAY_MS } as const
  await t.rejects(remembered({ ...request, refresh: 'daily' }, unreachable), { code: 'E_NETWORK' })
  await remembered({ ...request, refresh: 'daily', nowMs: 0 }, answer(0, 'old'))
  t.equal((await remembered({ ...request, refresh: 'daily' }, unreachable)).said, 'old')
  await t.rejects(remembered({ ...request, refresh: 'always' }, unreachable), { code: 'E_NETWORK' })
  const refused = (): Promise<Answer> => Promise.reject(new BuildError('E_SIGNATURE', 'not signed'))
  await t.rejects(remembered({ ...request, refresh: 'daily' }, refused), { code: 'E_SIGNATURE' })
})
