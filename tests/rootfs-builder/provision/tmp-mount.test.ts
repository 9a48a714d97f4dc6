// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { configureTmpMount } from '../../../rootfs-builder/provision/tmp-mount.ts'
import { contextOf, targetOf, textOf } from './context.ts'

const WANTS = 'etc/systemd/system/local-fs.target.wants/tmp.mount'

t.test('the unit the distro ships without enabling it is enabled', async (t) => {
  const context = contextOf(t, { usr: { share: { systemd: { 'tmp.mount': 'shipped' } } } })
  configureTmpMount(context)
  t.equal(textOf(context, 'etc/systemd/system/tmp.mount'), 'shipped')
  t.equal(targetOf(context, WANTS), '../tmp.mount')
})

t.test('a unit that is installed is enabled as it is', async (t) => {
  const context = contextOf(t, { usr: { lib: { systemd: { system: { 'tmp.mount': 'own' } } } } })
  configureTmpMount(context)
  t.equal(textOf(context, 'etc/systemd/system/tmp.mount'), undefined)
  t.equal(targetOf(context, WANTS), '/usr/lib/systemd/system/tmp.mount')
})

t.test('a guest with neither gets a unit of ours, and once', async (t) => {
  const context = contextOf(t)
  configureTmpMount(context)
  const unit = textOf(context, 'etc/systemd/system/tmp.mount')
  t.match(unit, /^Where=\/tmp$/m)
  configureTmpMount(context)
  t.equal(textOf(context, 'etc/systemd/system/tmp.mount'), unit)
})

t.test('an agent that is PID 1 mounts /tmp itself', async (t) => {
  const context = contextOf(t, {}, { AGENT_INIT: 'yes' })
  configureTmpMount(context)
  t.equal(targetOf(context, WANTS), undefined)
})
