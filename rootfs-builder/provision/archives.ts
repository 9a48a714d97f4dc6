// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { run } from '../../scripts/run.ts'
import { overlay } from '../guest.ts'
import type { ProvisionContext } from './context.ts'

/** Lay the archives the user gave over the guest: guest hooks, pause image, confidential components. */
export async function installArchives(context: ProvisionContext): Promise<void> {
  const { settings } = context
  const archives = [
    settings.GUEST_HOOKS_TARBALL,
    settings.PAUSE_IMAGE_TARBALL,
    settings.COCO_GUEST_COMPONENTS_TARBALL,
  ].filter((file) => file !== '')
  for (const file of archives) await installArchive(context, file)
}

/**
 * Unpack an archive (tar, as it is or compressed) into an empty folder, then lay that over the guest.
 *
 * In an empty folder tar itself refuses names with `..`, and no link of the guest can lead it astray;
 * the second half follows the guest's links as the guest would.
 */
export async function installArchive(context: ProvisionContext, file: string): Promise<void> {
  const folder = join(context.scratchDir, 'archive')
  mkdirSync(folder, { recursive: true })
  try {
    await run(['tar', '--extract', '--no-same-owner', '--file', file, '--directory', folder], {
      logFile: context.logFile,
    })
    overlay(context.guest, folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
