// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { removeUnits } from '../../../rootfs-builder/provision/remove-units.ts'
import { contextOf, textOf } from './context.ts'

const tree = {
  usr: {
    lib: {
      systemd: {
        system: {
          'systemd-journald.service': '',
          'systemd-udevd-control.socket': '',
          'systemd-networkd.service': '',
          'my-systemd-journald.service': '',
          'sysinit.target.wants': { 'systemd-udevd.service': '', 'other.service': '' },
        },
        'system-generators': { 'systemd-getty-generator': '', 'systemd-debug-generator': '' },
      },
    },
  },
}
const SYSTEM = 'usr/lib/systemd/system'
const GONE = [
  `${SYSTEM}/systemd-journald.service`,
  `${SYSTEM}/systemd-udevd-control.socket`,
  `${SYSTEM}/sysinit.target.wants/systemd-udevd.service`,
  `${SYSTEM}-generators/systemd-getty-generator`,
]
const KEPT = [
  `${SYSTEM}/systemd-networkd.service`,
  `${SYSTEM}/my-systemd-journald.service`,
  `${SYSTEM}/sysinit.target.wants/other.service`,
  `${SYSTEM}-generators/systemd-debug-generator`,
]

t.test('units are deleted when asked, with the links to them, and no others', async (t) => {
  const context = contextOf(t, tree, { REMOVE_UNITS: 'yes' })
  removeUnits(context)
  for (const path of GONE) t.equal(textOf(context, path), undefined, path)
  for (const path of KEPT) t.equal(textOf(context, path), '', path)
})

t.test('no unit is deleted unasked', async (t) => {
  const context = contextOf(t, tree)
  removeUnits(context)
  for (const path of [...GONE, ...KEPT]) t.equal(textOf(context, path), '', path)
})

t.test('also where /lib is a folder of its own', async (t) => {
  const context = contextOf(t, { lib: tree.usr.lib }, { REMOVE_UNITS: 'yes' })
  removeUnits(context)
  for (const path of GONE) t.equal(textOf(context, path.slice('usr/'.length)), undefined, path)
  for (const path of KEPT) t.equal(textOf(context, path.slice('usr/'.length)), '', path)
})
