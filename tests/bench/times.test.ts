// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { compareRuns, median, readHistory, row } from './times.ts'
import type { Run } from './times.ts'

function run(commit: string, times: Readonly<Record<string, number[]>>): Run {
  const cases = Object.fromEntries(Object.entries(times).map(([name, ours]) => [name, { ours, others: {} }]))
  return { date: '2026-01-01', commit, load: [0.5, 1], cases }
}

t.test('the median is the middle one, or between the middle two', (t) => {
  t.equal(median([3, 1, 2]), 2)
  t.equal(median([4, 1, 2, 3]), 2.5)
  t.equal(median([7]), 7)
  t.end()
})

t.test('a row has median, spread and ratio', (t) => {
  t.match(row('name', [2, 1, 3]), /^ {2}name +2\.00 s {2}1\.00\.\.3\.00$/)
  t.match(row('other', [5, 5, 5], [2, 1, 3]), /5\.00 s {2}5\.00\.\.5\.00 +2\.5 x$/)
  t.end()
})

t.test('what became slower by more than the spread is told, against the last other commit', (t) => {
  const history = [
    run('old', { a: [1, 1] }),
    run('one', { a: [2, 2.5], b: [1, 2] }),
    run('two', { a: [9, 9] }),
  ]
  t.strictSame(
    compareRuns(run('two', { a: [2.4, 3], b: [1.5, 4], c: [1] }), history),
    [],
    'within the spread',
  )
  t.strictSame(compareRuns(run('two', { a: [2.6, 3], b: [0.5, 0.7] }), history), [
    'SLOWER than one: a: 2.25 s -> 2.80 s (load 0.5 then, 0.5 now)',
    'faster than one: b: 1.50 s -> 0.60 s (load 0.5 then, 0.5 now)',
  ])
  t.strictSame(compareRuns(run('new', { a: [1] }), []), [])
  t.end()
})

t.test('a history is read without lines of another form', (t) => {
  const good = run('one', { a: [1] })
  t.strictSame(readHistory(`{"rounds":3}\n${JSON.stringify(good)}\n\n`), [good])
  t.strictSame(readHistory(''), [])
  t.end()
})
