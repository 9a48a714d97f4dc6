// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { parseSettings } from '../../scripts/settings.ts'
import { SETTINGS } from '../../scripts/settings-table.ts'
import type { SettingRow } from '../../scripts/settings-table.ts'

const ROWS = Object.entries(SETTINGS) as [string, SettingRow][]

t.test('every setting has a help line of at most 70 characters', async (t) => {
  for (const [name, { help }] of ROWS) {
    t.ok(help.length > 0 && help.length <= 70, `${name}: ${String(help.length)}`)
    t.notMatch(help, /\n|\.$/, name)
  }
})

t.test('every default is a value that the user might have given', async (t) => {
  for (const [name, row] of ROWS) t.doesNotThrow(() => parseSettings({ [name]: row.default }), name)
})

t.test('every name is in capitals', async (t) => {
  for (const [name] of ROWS) t.match(name, /^[A-Z][A-Z_]*$/)
})

t.test('every allowed value of a choice is accepted', async (t) => {
  for (const [name, row] of ROWS) {
    if (row.type !== 'choice') continue
    for (const value of row.allowed)
      t.doesNotThrow(() => parseSettings({ [name]: value }), `${name}=${value}`)
  }
})

t.test("the default distro is upstream's, whether it is there yet or not", async (t) => {
  t.equal(SETTINGS.DISTRO.default, 'ubuntu')
})
