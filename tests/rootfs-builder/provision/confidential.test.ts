// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { configureConfidential } from '../../../rootfs-builder/provision/confidential.ts'
import { contextOf, textOf } from './context.ts'

const ENTRY = 'tmpfs /run tmpfs nodev,nosuid,size=50% 0 0\n'

t.test('a confidential guest has half of the memory for /run, entered once', async (t) => {
  const context = contextOf(t, { etc: { fstab: '# theirs\n' } }, { CONFIDENTIAL_GUEST: 'yes' })
  configureConfidential(context)
  configureConfidential(context)
  t.equal(textOf(context, 'etc/fstab'), `# theirs\n${ENTRY}`)
  t.match(
    textOf(context, 'etc/systemd/system/kata-containers.target.d/10-remount.conf'),
    /systemd-remount-fs/,
  )
})

t.test('a guest without fstab gets one, another guest does not', async (t) => {
  const asked = contextOf(t, {}, { CONFIDENTIAL_GUEST: 'yes' })
  configureConfidential(asked)
  t.equal(textOf(asked, 'etc/fstab'), ENTRY)
  const unasked = contextOf(t)
  configureConfidential(unasked)
  t.equal(textOf(unasked, 'etc/fstab'), undefined)
})
