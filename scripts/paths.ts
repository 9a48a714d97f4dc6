// SPDX-License-Identifier: Apache-2.0
import { existsSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Folder of this project (or of what `make install-scripts` installed): the one with package.json. */
export const PROJECT_ROOT = findRoot(import.meta.dirname)

/** Folder of the compiled steps. */
export const BUILD_ROOT = join(PROJECT_ROOT, 'build')

/**
 * Folder of the steps, and of the workers they start, as few files: loading a step is half of a rebuild that
 * finds nothing to do. Made by the Makefile.
 */
export const BUNDLE_ROOT = join(BUILD_ROOT, 'bundle')

/** True for a file or folder that is there, and not for a device, as the /dev/null of LOCK_FILE. */
export function isFileOrFolder(path: string): boolean {
  const status = statSync(path, { throwIfNoEntry: false })
  return status?.isFile() === true || status?.isDirectory() === true
}

function findRoot(start: string): string {
  for (let folder = start; ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json'))) return folder
    if (folder === dirname(folder)) throw new Error(`no package.json above ${start}`)
  }
}
