// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { BuildError } from '../../scripts/errors.ts'
import { run } from '../../scripts/run.ts'

/**
 * Unpack a tarball of kernel sources, leaving out the folder that it has around them.
 *
 * @throws BuildError E_INPUT when it holds something else
 */
export async function unpackTarball(file: string, folder: string, logFile: string): Promise<void> {
  try {
    const argv = [
      ['tar', '--extract', '--file', file, '--directory', folder],
      ['--strip-components=1', '--no-same-owner'],
    ]
    await run(argv.flat(), { logFile })
  } catch (error) {
    if (!(error instanceof BuildError) || error.code !== 'E_COMMAND') throw error
    throw new BuildError('E_INPUT', `${file}: cannot be unpacked`, { because: error.because, cause: error })
  }
  requireTree(folder, file)
}

/** @throws BuildError E_INPUT when the folder is not the top of kernel sources */
export function requireTree(folder: string, origin: string): void {
  if (['Makefile', 'Kconfig', 'arch', 'init/main.c'].every((path) => existsSync(join(folder, path)))) return
  throw new BuildError('E_INPUT', `${origin}: holds no kernel sources`, {
    because: ['expected a folder with Makefile, Kconfig, arch and init/main.c'],
    hint: 'KERNEL_TREE=…    names the folder or tarball of a kernel',
  })
}
