// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'

import { compressFiles } from './erofs-compress.ts'
import { planErofs } from './erofs-plan.ts'
import { writeExt4 } from './ext4.ts'
import { effortOf } from './filesystem.ts'
import type { FilesystemRequest, PreparedFilesystem } from './filesystem.ts'
import { nodesOf } from './nodes.ts'

/**
 * An EROFS by our own planner: mkfs.erofs of Debian 12 takes a folder and nothing else, so that device
 * nodes would need root, and its bytes change from version to version.
 */
export async function prepareErofs(request: FilesystemRequest): Promise<PreparedFilesystem> {
  const { entries, uuid, epochSeconds } = request
  const effort = effortOf(request.compression)
  const blocksFile = join(request.scratchDir, 'blocks')
  const files = nodesOf(entries).flatMap(({ entry }) => (entry.type === 'file' ? [entry] : []))
  const plan = planErofs(entries, {
    uuid,
    epochSeconds,
    ...(effort === undefined
      ? {}
      : { compressed: { files: await compressFiles(files, effort, blocksFile), blocksFile } }),
  })
  return {
    neededBytes: plan.sizeBytes,
    place: () => ({
      freeBytes: 0,
      usedBytes: plan.sizeBytes,
      write: (fileDescriptor, offsetBytes, buffers) => {
        writeExt4(fileDescriptor, offsetBytes, plan, buffers)
      },
    }),
  }
}
