// SPDX-License-Identifier: Apache-2.0
import { rmSync } from 'node:fs'
import { join } from 'node:path'

import { smallAlpine, startRepository } from '../mirrors/alpine.ts'
import { makeAsync } from '../system/user.ts'
import { WORKDIR, timed } from './plain.ts'

/** Kept apart from the Debian guest, whose cold builds begin without their folder. */
const ALPINE_WORKDIR = `${WORKDIR}-alpine`

/**
 * Build a small Alpine once from a repository on this host, and return what times an initrd from its
 * cache: without a rootfs, and without asking the repository.
 */
export async function prepareAlpine(): Promise<{
  readonly warmInitrd: () => number
  readonly close: () => Promise<void>
}> {
  const repository = await startRepository()
  await repository.publish(await smallAlpine())
  const settings = {
    DISTRO: 'alpine',
    REPO_URL: repository.url,
    REPO_KEYRING: repository.keyring,
    AGENT_INIT: 'yes',
    INITRD_COMPRESSION: 'zstd',
    WORKDIR: ALPINE_WORKDIR,
    SOURCE_DATE_EPOCH: '1795000000',
  }
  const built = await makeAsync('initrd', settings)
  if (built.status !== 0) throw new Error(`bench: alpine\n${built.said}`)
  return {
    warmInitrd: () => {
      for (const name of ['alpine_rootfs', 'kata-containers-initrd.img']) {
        rmSync(join(ALPINE_WORKDIR, name), { recursive: true, force: true })
      }
      return timed('make initrd', settings)
    },
    close: async () => {
      await repository.close()
      rmSync(ALPINE_WORKDIR, { recursive: true, force: true })
    },
  }
}
