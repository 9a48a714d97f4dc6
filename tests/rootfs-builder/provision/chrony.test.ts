// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { configureChrony } from '../../../rootfs-builder/provision/chrony.ts'
import { contextOf, textOf } from './context.ts'

const CONFIG =
  'pool 2.debian.pool.ntp.org iburst\nsourcedir /etc/chrony/sources.d\nmakestep 1 3\ndriftfile /x\n'
const UNIT = '[Service]\nExecStart=!/usr/sbin/chronyd $DAEMON_OPTS -u _chrony\n'
const tree = {
  etc: { chrony: { 'chrony.conf': CONFIG } },
  usr: { lib: { systemd: { system: { 'chrony.service': UNIT } } } },
}

t.test('the clock of the host is the only source of time', async (t) => {
  const context = contextOf(t, tree)
  configureChrony(context)
  const lines = textOf(context, 'etc/chrony/chrony.conf')?.split('\n') ?? []
  t.notOk(lines.some((line) => /^(server|pool|peer|sourcedir)\s/.test(line)))
  for (const line of ['refclock PHC /dev/ptp0 poll 3 dpoll -2 offset 0', 'makestep 1 -1', 'driftfile /x']) {
    t.equal(lines.filter((found) => found === line).length, 1, line)
  }
})

t.test('configuring the clock twice changes nothing more', async (t) => {
  const context = contextOf(t, tree)
  configureChrony(context)
  const [config, unit] = ['etc/chrony/chrony.conf', 'etc/systemd/system/chrony.service.d/10-guest.conf'].map(
    (path) => textOf(context, path),
  )
  configureChrony(context)
  t.equal(textOf(context, 'etc/chrony/chrony.conf'), config)
  t.equal(textOf(context, 'etc/systemd/system/chrony.service.d/10-guest.conf'), unit)
})

t.test('the daemon runs as root, where the clock is there, with its folders in memory', async (t) => {
  const context = contextOf(t, tree)
  configureChrony(context)
  const unit = textOf(context, 'etc/systemd/system/chrony.service.d/10-guest.conf') ?? ''
  t.match(unit, /^ConditionPathExists=\/dev\/ptp0$/m)
  t.match(unit, /^ExecStart=\nExecStart=\/usr\/sbin\/chronyd \$DAEMON_OPTS -u root$/m)
  t.match(unit, /^TemporaryFileSystem=\/var\/lib\/chrony/m)
})

t.test('a guest without chrony is left as it is', async (t) => {
  const context = contextOf(t, { etc: {} })
  configureChrony(context)
  t.equal(textOf(context, 'etc/chrony/chrony.conf'), undefined)
})
