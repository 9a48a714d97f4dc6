// SPDX-License-Identifier: Apache-2.0
import { closeSync, openSync, readSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'

import { warn } from '../../scripts/log.ts'
import { startFilter } from '../../scripts/pipes.ts'
import type { TreeEntry } from '../../scripts/tree.ts'
import { writeExt4 } from './ext4.ts'
import type { Compression, FilesystemRequest, PreparedFilesystem } from './filesystem.ts'
import { inputError } from './nodes.ts'
import { writeTar } from './tar.ts'

/** What sqfstar calls each compression. Source: sqfstar(1) */
const ARGUMENTS: Readonly<Record<Compression, readonly string[]>> = {
  none: ['-comp', 'gzip', '-noD', '-noF', '-noX'],
  gzip: ['-comp', 'gzip'],
  lz4: ['-comp', 'lz4'],
  lz4hc: ['-comp', 'lz4', '-Xhc'],
  xz: ['-comp', 'xz'],
  zstd: ['-comp', 'zstd'],
}

/**
 * A SquashFS by sqfstar, from an archive that is never on disk: owners and devices are what the entries
 * say, whoever builds.
 */
export async function prepareSquashfs(request: FilesystemRequest): Promise<PreparedFilesystem> {
  const file = join(request.scratchDir, 'squashfs')
  const [root] = request.entries
  if ((root?.xattrs?.size ?? 0) > 0)
    throw inputError('', 'has extended attributes, which sqfstar cannot give to the root: remove them')
  const argv = [
    ['sqfstar', '-quiet', '-no-progress', '-exit-on-error', '-reproducible', '-xattrs'],
    ['-mkfs-time', String(request.epochSeconds)],
    // It takes the root from its own defaults, not from the archive.
    ['-root-mode', ((root?.mode ?? 0o755) & 0o7777).toString(8)],
    ['-root-uid', String(root?.uid ?? 0), '-root-gid', String(root?.gid ?? 0)],
    // So that the time of the root can be set, below.
    ['-noI'],
    ARGUMENTS[request.compression],
    [file],
  ].flat()
  const said = join(request.scratchDir, 'squashfs.log')
  const filter = startFilter(argv, said)
  filter.done.catch(() => undefined)
  const broken = new Promise<never>((_, reject) => {
    filter.stdin.on('error', reject)
  })
  const written = writeTar(withoutLists(request.entries), filter.stdin, request.epochSeconds)
  // When it ends early, what it says is worth more than the broken pipe.
  await Promise.race([written, broken]).catch(async (error: unknown) => {
    filter.stdin.destroy()
    await filter.done
    throw error
  })
  await filter.done
  setRootTime(file, Math.min(root?.mtimeSeconds ?? 0, request.epochSeconds))
  const sizeBytes = statSync(file).size
  const pieces = [{ offsetBytes: 0, hostPath: file, lengthBytes: sizeBytes, isLast: true }]
  return {
    neededBytes: sizeBytes,
    place: () => ({
      freeBytes: 0,
      usedBytes: sizeBytes,
      write: (fileDescriptor, offsetBytes, buffers) => {
        writeExt4(fileDescriptor, offsetBytes, { sizeBytes, pieces }, buffers)
      },
    }),
  }
}

/** The entries without access control lists, which SquashFS has no way to store; tells whose are lost. */
function withoutLists(entries: readonly TreeEntry[]): TreeEntry[] {
  const lost: string[] = []
  const kept = entries.map((entry) => {
    const xattrs = [...(entry.xattrs ?? [])].filter(([name]) => !name.startsWith('system.'))
    if (xattrs.length === (entry.xattrs?.size ?? 0)) return entry
    lost.push(`/${entry.path}`)
    return { ...entry, xattrs: new Map(xattrs) }
  })
  if (lost.length > 0) {
    const more = lost.length > 3 ? ` and ${String(lost.length - 3)} more` : ''
    warn(`squashfs stores no access control lists: lost are those of ${lost.slice(0, 3).join(', ')}${more}`)
  }
  return kept
}

/** Places in the superblock. Unit: bytes. Source: linux/fs/squashfs/squashfs_fs.h, struct squashfs_super_block */
const ROOT_INODE_AT = 32
const INODE_TABLE_AT = 64

/** Place of the time in any inode. Unit: bytes. Source: the same, struct squashfs_base_inode */
const TIME_AT = 8

/** Marks a block of metadata that is stored as it is. Source: the same, SQUASHFS_COMPRESSED_BIT */
const STORED = 0x8000

/** Give the root a time: sqfstar 4.5.1 gives it that of the clock, whatever -root-time says. */
function setRootTime(file: string, timeSeconds: number): void {
  const descriptor = openSync(file, 'r+')
  try {
    const superblock = Buffer.alloc(96)
    readSync(descriptor, superblock, 0, superblock.length, 0)
    const reference = superblock.readBigUInt64LE(ROOT_INODE_AT)
    const block = Number(superblock.readBigUInt64LE(INODE_TABLE_AT)) + Number(reference >> 16n)
    const head = Buffer.alloc(2)
    readSync(descriptor, head, 0, head.length, block)
    if ((head.readUInt16LE(0) & STORED) === 0) throw new Error('sqfstar compressed the inodes all the same')
    const time = Buffer.alloc(4)
    time.writeUInt32LE(Math.max(timeSeconds, 0))
    writeSync(descriptor, time, 0, time.length, block + head.length + Number(reference & 0xffffn) + TIME_AT)
  } finally {
    closeSync(descriptor)
  }
}
