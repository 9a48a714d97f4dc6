// SPDX-License-Identifier: Apache-2.0
import { closeSync, ftruncateSync, openSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { run } from '../../scripts/run.ts'
import { changedError } from './erofs-compress.ts'
import { writeExt4 } from './ext4.ts'
import type { FilesystemRequest, PlacedFilesystem, PreparedFilesystem } from './filesystem.ts'
import { openXfs } from './xfs-file.ts'
import { mendXfs } from './xfs-mend.ts'
import { prototypeOf } from './xfs-proto.ts'

const MIB = 1024 * 1024

/** Smallest filesystem that mkfs.xfs makes since 5.19. Unit: bytes. */
const LEAST_BYTES = 300 * MIB

/** Smallest log of such a filesystem, and what else does not grow with the content. Unit: bytes. */
const FIXED_BYTES = (64 + 16) * MIB

/** An inode, its names, and its share of the indexes. Unit: bytes. */
const NODE_BYTES = 1024

/**
 * An XFS by mkfs.xfs, from a prototype, mended afterwards: xfsprogs of Debian 12 give neither times nor
 * second names, and take the time from the clock.
 */
export function prepareXfs(request: FilesystemRequest): Promise<PreparedFilesystem> {
  const { entries, blockSizeBytes, scratchDir } = request
  const { text, files } = prototypeOf(entries)
  const contentBytes = entries.reduce(
    (sum, { sizeBytes }) => sum + Math.ceil(sizeBytes / blockSizeBytes) * blockSizeBytes + NODE_BYTES,
    0,
  )
  // Free space is listed, and some is kept for that; 5 % is more than both.
  const neededBytes = Math.max(
    LEAST_BYTES,
    Math.ceil((contentBytes + request.freeBytes) * 1.05) + FIXED_BYTES,
  )
  writeFileSync(join(scratchDir, 'prototype'), text)
  // Words of the prototype end at a space, which the path of the rootfs may have.
  symlinkSync(request.rootfsDir, join(scratchDir, 'rootfs'))
  for (const [path, content] of files) {
    if (typeof content === 'string') symlinkSync(content, join(scratchDir, path))
    else writeFileSync(join(scratchDir, path), content)
  }
  return Promise.resolve({ neededBytes, place: (sizeBytes) => placeXfs(request, sizeBytes) })
}

function placeXfs(request: FilesystemRequest, sizeBytes: number): PlacedFilesystem {
  const file = join(request.scratchDir, 'xfs')
  let freeBytes = 0
  return {
    get freeBytes() {
      return freeBytes
    },
    get usedBytes() {
      return sizeBytes - freeBytes
    },
    write: async (fileDescriptor, offsetBytes, buffers) => {
      freeBytes = await makeXfs(request, file, sizeBytes)
      const pieces = [{ offsetBytes: 0, hostPath: file, lengthBytes: sizeBytes, isLast: true }]
      writeExt4(fileDescriptor, offsetBytes, { sizeBytes, pieces }, buffers)
    },
  }
}

/** @returns bytes that are free in it */
async function makeXfs(request: FilesystemRequest, file: string, sizeBytes: number): Promise<number> {
  const { entries, scratchDir, logFile, uuid, blockSizeBytes, epochSeconds } = request
  const descriptor = openSync(file, 'w+')
  try {
    ftruncateSync(descriptor, sizeBytes)
    const argv = [
      ['mkfs.xfs', '-q', '-f', '-p', 'prototype', '-d', 'agcount=4'],
      ['-b', `size=${String(blockSizeBytes)}`, '-i', 'size=512'],
      // Shared blocks and DAX exclude each other.
      ['-m', `uuid=${uuid},crc=1,finobt=1,rmapbt=0,reflink=0,bigtime=1,inobtcount=1`],
      ['xfs'],
    ].flat()
    await run(argv, { cwd: scratchDir, logFile })
    const wasChanged = entries.find(
      ({ type, source, sizeBytes: size }) =>
        type === 'file' && typeof source === 'string' && statSync(source).size !== size,
    )
    if (wasChanged !== undefined) throw changedError(wasChanged)
    const namesChanged = mendXfs(openXfs(descriptor), entries, epochSeconds)
    if (namesChanged) await run(['xfs_repair', '-f', 'xfs'], { cwd: scratchDir, logFile })
    return openXfs(descriptor).freeBytes
  } finally {
    closeSync(descriptor)
  }
}
