// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { BuildError } from '../../scripts/errors.ts'
import { run } from '../../scripts/run.ts'
import { overlay } from '../guest.ts'
import type { ProvisionContext } from './context.ts'

/** Lay the archives the user gave over the guest: guest hooks, pause image, confidential components. */
export async function installArchives(context: ProvisionContext): Promise<void> {
  for (const name of [
    'GUEST_HOOKS_TARBALL',
    'PAUSE_IMAGE_TARBALL',
    'COCO_GUEST_COMPONENTS_TARBALL',
  ] as const) {
    if (context.settings[name] !== '') await installArchive(context, name, context.settings[name])
  }
}

/**
 * Unpack an archive (tar, as it is or compressed) into an empty folder, then lay that over the guest.
 *
 * In an empty folder tar itself refuses names with `..`, and no link of the guest can lead it astray;
 * the second half follows the guest's links as the guest would.
 *
 * @param setting the setting that names the archive
 * @throws BuildError E_INPUT when tar cannot unpack it
 */
export async function installArchive(
  context: ProvisionContext,
  setting: string,
  file: string,
): Promise<void> {
  const folder = join(context.scratchDir, 'archive')
  mkdirSync(folder, { recursive: true })
  try {
    await run(['tar', '--extract', '--no-same-owner', '--file', file, '--directory', folder], {
      logFile: context.logFile,
    })
    overlay(context.guest, folder)
  } catch (error) {
    if (!(error instanceof BuildError) || error.code !== 'E_COMMAND') throw error
    throw new BuildError('E_INPUT', `${setting}=${file}: cannot be unpacked`, {
      because: error.because,
      hint: `tar -tf ${file}    shows what is wrong with it`,
      cause: error,
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
