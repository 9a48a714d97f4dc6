// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { compareVersions, isVersion, satisfies } from '../../../../rootfs-builder/bootstrap/apk/version.ts'
import type { Operator } from '../../../../rootfs-builder/bootstrap/apk/version.ts'

t.test('versions are in the order of apk', (t) => {
  // Each row from old to new.
  const rows = [
    '0.1.0_alpha 0.1.0_alpha2 0.1.3_alpha 0.1.3_beta 0.1.3_pre1 0.1.3_rc1 0.1.3 0.1.3_git2 0.1.3_p1 0.1.4',
    '1.0 1.0a 1.0.0 1.0.1 1.1_alpha1 1.1 1.1-r1 1.1-r10 1.2',
    '1.01 1.02 1.1 1.2 1.10',
    '4.0 4.0-r1 4.0.1 10.0',
    '1.2~abc 1.2~abd',
    '0.12.3-r2 0.12.3-r11',
  ]
  for (const row of rows) {
    const versions = row.split(' ')
    for (const [index, version] of versions.entries()) {
      t.ok(isVersion(version), version)
      t.equal(compareVersions(version, version), 0)
      for (const newer of versions.slice(index + 1)) {
        t.ok(compareVersions(version, newer) < 0, `${version} < ${newer}`)
        t.ok(compareVersions(newer, version) > 0, `${newer} > ${version}`)
      }
    }
  }
  t.end()
})

t.test('operators ask what apk says they ask', (t) => {
  const cases: readonly [string, Operator, string, boolean][] = [
    ['1.2', '=', '1.2', true],
    ['1.2.1', '=', '1.2', false],
    ['1.2.1', '~', '1.2', true],
    ['1.20', '~', '1.2', false],
    ['1.2_pre1', '~', '1.2', true],
    ['1.2', '~', '1.2.1', false],
    ['1.3', '>=', '1.3', true],
    ['1.3', '>', '1.3', false],
    ['1.3-r1', '>', '1.3', true],
    ['1.2', '<', '1.3_rc1', true],
    ['1.3_rc1', '<=', '1.3', true],
    ['1.4', '<=', '1.3', false],
  ]
  for (const [version, operator, wanted, is] of cases) {
    t.equal(satisfies(version, operator, wanted), is, `${version} ${operator} ${wanted}`)
  }
  t.end()
})

t.test('what is no version is told', (t) => {
  for (const text of ['', 'abc', '1.0bc', '1.0_foo', '1..2', '1.0-r', '1.0-x1', '01a~zz']) {
    t.notOk(isVersion(text), text)
  }
  t.end()
})
