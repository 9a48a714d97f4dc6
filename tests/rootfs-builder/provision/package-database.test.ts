// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { dropPackageDatabase } from '../../../rootfs-builder/provision/package-database.ts'
import { contextOf, foreignContextOf, textOf } from './context.ts'

const tree = { var: { lib: { dpkg: { status: 'x' }, other: { file: 'x' } } } }

t.test('the package database is dropped when asked, and nothing beside it', async (t) => {
  const context = contextOf(t, tree, { KEEP_PACKAGE_DB: 'no' })
  dropPackageDatabase(context)
  t.equal(textOf(context, 'var/lib/dpkg/status'), undefined)
  t.equal(textOf(context, 'var/lib/other/file'), 'x')
})

t.test('the package database stays unasked, and in a rootfs of the user', async (t) => {
  for (const context of [contextOf(t, tree), foreignContextOf(t, tree, { KEEP_PACKAGE_DB: 'no' })]) {
    dropPackageDatabase(context)
    t.equal(textOf(context, 'var/lib/dpkg/status'), 'x')
  }
})
