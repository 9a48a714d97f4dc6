// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { leaveReading, takeReading } from '../../scripts/tree-reading.ts'
import { listEntries } from '../../scripts/tree-stamp.ts'
import { readTree } from '../../scripts/tree.ts'

t.test('a reading is for one step, in time, and for the very tree', (t) => {
  const entries = readTree(t.testdir({ file: 'abc' }))
  const { stamp } = listEntries(entries)
  t.equal(takeReading('/tree', stamp), undefined, 'nothing was left')

  leaveReading('/tree', entries, 5000)
  t.equal(takeReading('/tree', stamp, 5999), entries)
  t.equal(takeReading('/tree', stamp, 5999), undefined, 'it was taken')

  leaveReading('/tree', entries, 5000)
  t.equal(takeReading('/tree', stamp, 6001), undefined, 'it is old')

  leaveReading('/tree', entries, 5000)
  t.equal(takeReading('/other', stamp, 5001), undefined, 'it is of another folder')

  leaveReading('/tree', entries, 5000)
  t.equal(takeReading('/tree', 'of another build', 5001), undefined)
  leaveReading('/tree', entries, 5000)
  t.equal(takeReading('/tree', undefined, 5001), undefined, 'what is there now was not built by us')
  t.end()
})
