// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Folder of this project (or of what `make install-scripts` installed): the one with package.json. */
export const PROJECT_ROOT = findRoot(import.meta.dirname)

/** Folder of the compiled steps. */
export const BUILD_ROOT = dirname(import.meta.dirname)

function findRoot(start: string): string {
  for (let folder = start; ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json'))) return folder
    if (folder === dirname(folder)) throw new Error(`no package.json above ${start}`)
  }
}
