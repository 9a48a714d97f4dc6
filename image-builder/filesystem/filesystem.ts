// SPDX-License-Identifier: Apache-2.0
import type { WriteBuffers } from '../../scripts/hash-behind.ts'
import type { TreeEntry } from '../../scripts/tree.ts'
import type { Lz4Effort } from './lz4.ts'

/** Names of FS_TYPE. */
export type FilesystemType = 'ext4' | 'xfs' | 'erofs' | 'squashfs'

/** Names of FS_COMPRESSION, `default` resolved. */
export type Compression = 'none' | 'lz4' | 'lz4hc' | 'gzip' | 'xz' | 'zstd'

/** What is asked of any filesystem. */
export interface FilesystemRequest {
  /** In byte order of the paths, the root first. */
  readonly entries: readonly TreeEntry[]
  /** The folder that the entries were read from. */
  readonly rootfsDir: string
  readonly blockSizeBytes: 1024 | 2048 | 4096
  /** Space to leave; a read-only filesystem leaves none. */
  readonly freeBytes: number
  readonly compression: Compression
  readonly uuid: string
  readonly hashSeed: string
  readonly epochSeconds: number
  /** A folder that is removed after the build. */
  readonly scratchDir: string
  readonly logFile: string
}

/** A filesystem whose needs are known. */
export interface PreparedFilesystem {
  /** The smallest size that holds the tree and the free space. Unit: bytes. */
  readonly neededBytes: number
  /** Decide where everything is in a filesystem of this size, a multiple of 1 MiB. */
  readonly place: (sizeBytes: number) => PlacedFilesystem
}

/** A filesystem that can be written. */
export interface PlacedFilesystem {
  readonly freeBytes: number
  readonly usedBytes: number
  /**
   * Write it at `offsetBytes` of an open file that is zero there.
   *
   * @param buffers are told, in bytes of the open file, what is written
   */
  readonly write: (fileDescriptor: number, offsetBytes: number, buffers: WriteBuffers) => void | Promise<void>
}

/** One way to make a filesystem. */
export type Prepare = (request: FilesystemRequest) => Promise<PreparedFilesystem>

/** What there is to know of a type before anything is made. */
export interface FilesystemFacts {
  /** Compressions, the default one first. */
  readonly compressions: readonly Compression[]
  readonly isReadOnly: boolean
  readonly blockSizes: readonly string[]
  /** Host programs that make it. */
  readonly tools: readonly string[]
}

export const FILESYSTEMS: Readonly<Record<FilesystemType, FilesystemFacts>> = {
  ext4: { compressions: ['none'], isReadOnly: false, blockSizes: ['1024', '2048', '4096'], tools: [] },
  xfs: {
    compressions: ['none'],
    isReadOnly: false,
    blockSizes: ['4096'],
    tools: ['mkfs.xfs', 'xfs_repair'],
  },
  // What every kernel reads that has EROFS with compression at all; and what upstream uses.
  erofs: { compressions: ['lz4hc', 'lz4', 'none'], isReadOnly: true, blockSizes: ['4096'], tools: [] },
  squashfs: {
    compressions: ['zstd', 'gzip', 'lz4', 'lz4hc', 'xz', 'none'],
    isReadOnly: true,
    blockSizes: ['4096'],
    tools: ['sqfstar'],
  },
}

/** How the LZ4 of EROFS is searched; undefined without compression. */
export function effortOf(compression: Compression): Lz4Effort | undefined {
  if (compression === 'lz4') return 'fast'
  return compression === 'lz4hc' ? 'hc' : undefined
}
