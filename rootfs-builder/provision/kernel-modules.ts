// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'

import { run } from '../../scripts/run.ts'
import { makeFolder, overlay } from '../guest.ts'
import type { ProvisionContext } from './context.ts'

/** Install the modules of the guest kernel, with the index modprobe reads when the folder lacks one. */
export async function installKernelModules({ guest, settings, logFile }: ProvisionContext): Promise<void> {
  const source = settings.KERNEL_MODULES_DIR
  if (source === '') return
  const version = basename(source)
  makeFolder(guest, 'lib/modules')
  // `build` and `source` point to the tree on the host that the kernel was compiled in.
  overlay(guest, source, `lib/modules/${version}`, (path) => path !== 'build' && path !== 'source')
  if (existsSync(join(source, 'modules.dep'))) return
  await run(['depmod', '--basedir', guest.root, version], { logFile })
}
