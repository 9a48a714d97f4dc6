// SPDX-License-Identifier: Apache-2.0
import { minimumExt4Bytes, planExt4 } from './ext4-plan.ts'
import { writeExt4 } from './ext4.ts'
import type { FilesystemRequest, PreparedFilesystem } from './filesystem.ts'

/** An ext4 by our own planner. */
export function prepareExt4(request: FilesystemRequest): Promise<PreparedFilesystem> {
  const { entries, blockSizeBytes, uuid, hashSeed, epochSeconds, freeBytes } = request
  return Promise.resolve({
    neededBytes: minimumExt4Bytes(entries, { blockSizeBytes, freeBytes, epochSeconds }),
    place: (sizeBytes) => {
      const plan = planExt4(entries, { sizeBytes, blockSizeBytes, uuid, hashSeed, epochSeconds })
      return {
        freeBytes: plan.freeBytes,
        usedBytes: plan.sizeBytes - plan.freeBytes,
        write: (fileDescriptor, offsetBytes, buffers) => {
          writeExt4(fileDescriptor, offsetBytes, plan, buffers)
        },
      }
    },
  })
}
