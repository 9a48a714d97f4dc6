// SPDX-License-Identifier: Apache-2.0
import { symlinkSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { installKernelModules } from '../../../rootfs-builder/provision/kernel-modules.ts'
import { contextOf, textOf } from './context.ts'

t.test("systemd's link to the list of modules leads to a file", async (t) => {
  const linked = (tree: Parameters<typeof contextOf>[1]): ReturnType<typeof contextOf> => {
    const context = contextOf(t, tree)
    symlinkSync('../modules', join(context.guest.root, 'etc/modules-load.d/modules.conf'))
    return context
  }
  const dangling = linked({ etc: { 'modules-load.d': {} } })
  await installKernelModules(dangling)
  t.equal(textOf(dangling, 'etc/modules'), '')
  t.equal(textOf(dangling, 'etc/modules-load.d/modules.conf'), '')
  const listed = linked({ etc: { modules: 'loop\n', 'modules-load.d': {} } })
  await installKernelModules(listed)
  t.equal(textOf(listed, 'etc/modules'), 'loop\n', "what is there stays the user's")
  const none = contextOf(t, { etc: {} })
  await installKernelModules(none)
  t.equal(textOf(none, 'etc/modules'), undefined)
})
