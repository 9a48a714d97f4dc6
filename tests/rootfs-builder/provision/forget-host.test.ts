// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { forgetHost } from '../../../rootfs-builder/provision/forget-host.ts'
import { contextOf, foreignContextOf, textOf } from './context.ts'

const tree = {
  etc: {
    hostname: 'builder',
    'passwd-': 'x',
    passwd: 'kept',
    'machine-id': '123',
    apt: {},
    ssh: { ssh_host_rsa_key: 'x', 'ssh_host_rsa_key.pub': 'x', ssh_config: 'kept' },
  },
  var: {
    log: { 'dpkg.log': 'x', apt: { 'term.log': 'x', 'eipp.log.xz': 'x' }, journal: {} },
    cache: { apt: { 'pkgcache.bin': 'x' } },
  },
  tmp: { left: 'x' },
}
const LEFT = [
  'etc/passwd-',
  'var/log/dpkg.log',
  'var/log/apt/term.log',
  'var/cache/apt/pkgcache.bin',
  'tmp/left',
  'etc/ssh/ssh_host_rsa_key',
  'etc/ssh/ssh_host_rsa_key.pub',
]

t.test('the name of the host, logs, caches and backups are gone', async (t) => {
  const context = contextOf(t, tree)
  forgetHost(context)
  for (const path of LEFT) t.equal(textOf(context, path), undefined, path)
  t.equal(textOf(context, 'etc/hostname'), 'localhost\n')
  t.equal(textOf(context, 'etc/machine-id'), '')
  t.equal(textOf(context, 'etc/passwd'), 'kept')
  t.equal(textOf(context, 'etc/ssh/ssh_config'), 'kept')
  t.equal(textOf(context, 'etc/apt/sources.list'), 'deb http://mirror bookworm main\n')
})

t.test('a log that apt compressed is gone too', async (t) => {
  const context = contextOf(t, tree)
  forgetHost(context)
  t.equal(textOf(context, 'var/log/apt/eipp.log.xz'), undefined)
})

t.test('a rootfs of the user is left as it is', async (t) => {
  const context = foreignContextOf(t, tree)
  forgetHost(context)
  for (const path of LEFT) t.equal(textOf(context, path), 'x', path)
  t.equal(textOf(context, 'etc/hostname'), 'builder')
  t.equal(textOf(context, 'etc/machine-id'), '123')
})
