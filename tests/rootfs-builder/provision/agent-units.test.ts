// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { installAgentUnits } from '../../../rootfs-builder/provision/agent-units.ts'
import { contextOf, targetOf, textOf } from './context.ts'

const UNITS = 'usr/lib/systemd/system'
const WANTED = 'etc/systemd/system/basic.target.wants/kata-containers.target'

t.test('systemd starts the agent by its name, in an image and in an initrd', async (t) => {
  const context = contextOf(t, {}, { AGENT_BIN: 'mine' })
  installAgentUnits(context)
  t.match(textOf(context, `${UNITS}/kata-agent.service`), /^ExecStart=\/usr\/bin\/mine$/m)
  t.match(textOf(context, `${UNITS}/kata-containers.target`), /^Requires=.*kata-agent\.service$/m)
  t.equal(targetOf(context, WANTED), `/${UNITS}/kata-containers.target`)
  installAgentUnits(context)
})

t.test('units the agent brought stay', async (t) => {
  const own = { 'kata-agent.service': 'own', 'kata-containers.target': 'own', 'dbus.socket': '' }
  const context = contextOf(t, { usr: { lib: { systemd: { system: own } } } })
  installAgentUnits(context)
  t.equal(textOf(context, `${UNITS}/kata-agent.service`), 'own')
  t.equal(textOf(context, `${UNITS}/kata-containers.target`), 'own')
  t.equal(
    targetOf(context, 'etc/systemd/system/kata-containers.target.wants/dbus.socket'),
    `/${UNITS}/dbus.socket`,
  )
})

t.test('an agent that is PID 1 needs no units', async (t) => {
  const context = contextOf(t, {}, { AGENT_INIT: 'yes' })
  installAgentUnits(context)
  t.equal(textOf(context, `${UNITS}/kata-agent.service`), undefined)
})
