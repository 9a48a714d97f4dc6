// SPDX-License-Identifier: Apache-2.0
import { existsSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Folder of this project (or of what `make install-scripts` installed): the one with package.json. */
export const PROJECT_ROOT = findRoot(import.meta.dirname)

/** Folder of the compiled steps. */
export const BUILD_ROOT = dirname(import.meta.dirname)

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
