// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../scripts/errors.ts'
import type { ImageSettings } from './image-settings.ts'
import { overheadBytes, roundUp } from './layout.ts'
import { treeBytes } from './verity.ts'

const MIB = 1024 * 1024

/** Multiple of an image's size when IMAGE_SIZE_ALIGNMENT_MB is not given. Unit: MiB. */
const ALIGNMENT = {
  // The memory of an NVDIMM is plugged in such parts.
  writable: 128,
  // As of what the info block of an NVDIMM aligns.
  readOnly: 2,
} as const

export interface ImageSizes {
  readonly imageBytes: number
  /** Length of the partition of the hash tree; 0 without one. */
  readonly hashBytes: number
}

/**
 * The smallest size that the rules allow: room for the filesystem and the tree over it, aligned; or
 * IMG_SIZE. What is too much is the filesystem's.
 *
 * @throws BuildError E_CONFIG when IMG_SIZE is too small
 */
export function imageSizes(settings: ImageSettings, neededBytes: number, isReadOnly: boolean): ImageSizes {
  const overhead = overheadBytes(!settings.SKIP_DAX_HEADER)
  const dataBytes = roundUp(neededBytes, MIB)
  const isMeasured = settings.MEASURED_ROOTFS
  let hashBytes = isMeasured ? roundUp(treeBytes(dataBytes), MIB) : 0
  const leastBytes = overhead + dataBytes + hashBytes
  const alignMiB = settings.IMAGE_SIZE_ALIGNMENT_MB ?? ALIGNMENT[isReadOnly ? 'readOnly' : 'writable']
  const imageBytes =
    settings.IMG_SIZE === undefined ? roundUp(leastBytes, alignMiB * MIB) : settings.IMG_SIZE * MIB
  if (imageBytes < leastBytes) {
    const leastMiB = String(Math.ceil(leastBytes / MIB))
    throw new BuildError('E_CONFIG', `IMG_SIZE=${String(settings.IMG_SIZE)}: the rootfs does not fit`, {
      because: [`it needs ${leastMiB} MiB with ROOT_FREE_SPACE=${String(settings.ROOT_FREE_SPACE ?? 0)}`],
      hint: `make IMG_SIZE=${leastMiB} image    or leave IMG_SIZE out`,
    })
  }
  // Data that is larger by what the alignment added needs a tree that is larger.
  while (isMeasured && treeBytes(imageBytes - overhead - hashBytes) > hashBytes) hashBytes += MIB
  return { imageBytes, hashBytes }
}
