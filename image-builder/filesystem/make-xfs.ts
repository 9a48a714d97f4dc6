// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../../scripts/errors.ts'
import type { FilesystemRequest, PreparedFilesystem } from './filesystem.ts'

/** Not there yet. */
export function prepareXfs(request: FilesystemRequest): Promise<PreparedFilesystem> {
  return Promise.reject(new BuildError('E_CONFIG', `FS_TYPE=xfs: not there yet ${request.uuid}`))
}
