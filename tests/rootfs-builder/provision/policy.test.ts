// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { installPolicy } from '../../../rootfs-builder/provision/policy.ts'
import { contextOf, targetOf, textOf } from './context.ts'

const folder = mkdtempSync(join(tmpdir(), 'osbuilder-policy-'))
t.teardown(() => {
  rmSync(folder, { recursive: true })
})
for (const name of ['mine.rego', 'default-policy.rego']) writeFileSync(join(folder, name), 'allow')

t.test('the policy has its own name and the one the agent reads', async (t) => {
  const context = contextOf(t, {}, { AGENT_POLICY: 'yes', AGENT_POLICY_FILE: join(folder, 'mine.rego') })
  installPolicy(context)
  t.equal(textOf(context, 'etc/kata-opa/mine.rego'), 'allow')
  t.equal(targetOf(context, 'etc/kata-opa/default-policy.rego'), 'mine.rego')
})

t.test('a policy that has the name the agent reads is no link to itself', async (t) => {
  const context = contextOf(
    t,
    {},
    { AGENT_POLICY: 'yes', AGENT_POLICY_FILE: join(folder, 'default-policy.rego') },
  )
  installPolicy(context)
  t.equal(textOf(context, 'etc/kata-opa/default-policy.rego'), 'allow')
})

t.test('no policy is installed unasked', async (t) => {
  const context = contextOf(t, {}, { AGENT_POLICY_FILE: join(folder, 'mine.rego') })
  installPolicy(context)
  t.equal(textOf(context, 'etc/kata-opa/mine.rego'), undefined)
})
