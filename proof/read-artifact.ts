// SPDX-License-Identifier: Apache-2.0
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'

import { BuildError } from '../scripts/errors.ts'
import { run } from '../scripts/run.ts'
import { readTree } from '../scripts/tree.ts'
import type { TreeEntry } from '../scripts/tree.ts'
import { writeAll } from '../scripts/write-all.ts'
import { tableOf, textOf } from './outputs.ts'
import type { Output } from './outputs.ts'
import { readNewc } from './read-newc.ts'

/** Beginnings of compressed files, and what unpacks them to stdout. */
const COMPRESSORS: readonly { readonly magic: string; readonly argv: readonly string[] }[] = [
  { magic: '1f8b', argv: ['gzip', '-dc'] },
  { magic: '28b52ffd', argv: ['zstd', '-dcq'] },
  { magic: 'fd377a58', argv: ['xz', '-dc'] },
  { magic: '02214c18', argv: ['lz4', '-dcq'] },
  { magic: '04224d18', argv: ['lz4', '-dcq'] },
]

/** What takes a filesystem apart without mounting it, into an empty folder. */
const READERS: Readonly<Record<string, (file: string, folder: string) => readonly string[]>> = {
  ext4: (file, folder) => ['debugfs', '-R', `rdump / ${folder}`, file],
  erofs: (file, folder) => ['fsck.erofs', `--extract=${folder}`, file],
  squashfs: (file, folder) => ['unsquashfs', '-no-progress', '-force', '-dest', folder, file],
}

/**
 * Read what an output holds from its own bytes.
 *
 * Device nodes and what else a packer adds are in it. Of an image, files, folders and links are read.
 *
 * @param scratchDir empty folder for what is unpacked on the way
 * @returns undefined when no tool reads such a filesystem without mounting it
 * @throws BuildError E_DIGEST when it cannot be read
 */
export async function readArtifact(output: Output, scratchDir: string): Promise<TreeEntry[] | undefined> {
  switch (output.manifest.kind) {
    case 'rootfs':
      return readTree(output.path)
    case 'initrd':
      return readNewc(await unpacked(output.path, scratchDir), output.path)
    case 'image':
      return await readImage(output, scratchDir)
    case 'kernel':
      return []
  }
}

/** The archive in an initrd, without its compression. */
export async function unpacked(file: string, scratchDir: string): Promise<Buffer> {
  const head = readAt(file, 0, 4).toString('hex')
  const compressor = COMPRESSORS.find(({ magic }) => head.startsWith(magic))
  if (compressor === undefined) return readFileSync(file)
  const plain = join(scratchDir, 'archive.cpio')
  try {
    await run([...compressor.argv, file], { stdoutFile: plain, logFile: join(scratchDir, 'log') })
  } catch (error) {
    throw unreadable(file, error)
  }
  return readFileSync(plain)
}

async function readImage({ path, manifest }: Output, scratchDir: string): Promise<TreeEntry[] | undefined> {
  const type = textOf(tableOf(manifest.inputs['settings'])['FS_TYPE'])
  const reader = READERS[type]
  if (reader === undefined) return undefined
  const { offsetBytes, sizeBytes } = tableOf(manifest.result['filesystem'])
  const partition = join(scratchDir, 'filesystem')
  copyRange(path, partition, Number(offsetBytes), Number(sizeBytes))
  const folder = join(scratchDir, 'tree')
  mkdirSync(folder)
  try {
    await run(reader(partition, folder), { logFile: join(scratchDir, 'log') })
  } catch (error) {
    throw unreadable(path, error)
  }
  return readTree(folder)
}

function unreadable(file: string, error: unknown): unknown {
  if (!(error instanceof BuildError) || error.code !== 'E_COMMAND') return error
  return new BuildError('E_DIGEST', `${file}: cannot be read`, {
    because: error.because,
    hint: 'build it again, or get it again from who built it',
    cause: error,
  })
}

const CHUNK_BYTES = 4 * 1024 * 1024

/** Copy a part of a file; what is zero becomes a hole. */
function copyRange(from: string, to: string, offsetBytes: number, sizeBytes: number): void {
  const input = openSync(from, 'r')
  const output = openSync(to, 'wx')
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES)
  const zero = Buffer.alloc(CHUNK_BYTES)
  try {
    ftruncateSync(output, sizeBytes)
    for (let done = 0; done < sizeBytes;) {
      const count = readSync(input, buffer, 0, Math.min(CHUNK_BYTES, sizeBytes - done), offsetBytes + done)
      if (count === 0) return
      if (!buffer.subarray(0, count).equals(zero.subarray(0, count)))
        writeAll(output, buffer.subarray(0, count), done)
      done += count
    }
  } finally {
    closeSync(input)
    closeSync(output)
  }
}

function readAt(file: string, offsetBytes: number, count: number): Buffer {
  const descriptor = openSync(file, 'r')
  try {
    const buffer = Buffer.alloc(count)
    readSync(descriptor, buffer, 0, count, offsetBytes)
    return buffer
  } finally {
    closeSync(descriptor)
  }
}
