// SPDX-License-Identifier: Apache-2.0
import { chmodSync } from 'node:fs'

import { hostPath, makeFolder, writeText } from '../guest.ts'
import type { ProvisionContext } from './context.ts'

/**
 * Make what must exist before a read-only root is booted: an agent that is PID 1 mounts these itself.
 *
 * `/etc/resolv.conf` is an empty regular file because the agent mounts the container's over it, which
 * a link into `/run` would send elsewhere.
 */
export function makeMountPoints({ guest }: ProvisionContext): void {
  for (const path of ['proc', 'sys', 'dev', 'run', 'mnt', 'etc', 'var']) makeFolder(guest, path)
  makeFolder(guest, 'tmp', 0o1777)
  chmodSync(hostPath(guest, 'tmp'), 0o1777)
  writeText(guest, 'etc/resolv.conf', '')
}
