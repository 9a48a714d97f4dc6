// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { BuildError } from '../../scripts/errors.ts'
import { PRIVATE_NAMESPACE, USER_NAMESPACE, explainNoNamespace, isRoot } from '../../scripts/namespace.ts'

t.test('being root is having the effective id 0', async (t) => {
  t.equal(isRoot(), process.geteuid?.() === 0)
})

t.test('a namespace that cannot be made is an error of permission with a command to type', async (t) => {
  try {
    explainNoNamespace('unshare said no')
  } catch (error) {
    t.ok(error instanceof BuildError)
    t.match(error, { code: 'E_PERMISSION', exitStatus: 77, hint: /sudo / })
  }
})

t.test('a command put behind a prefix is not read as an option of it', async (t) => {
  t.equal(USER_NAMESPACE.at(-1), '--')
  t.equal(PRIVATE_NAMESPACE.at(-1), '--')
  t.ok(PRIVATE_NAMESPACE.includes('--kill-child'))
})
