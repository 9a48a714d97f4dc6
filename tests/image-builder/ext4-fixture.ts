// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawnSync } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'

import { writeExt4 } from '../../image-builder/filesystem/ext4.ts'
import { minimumExt4Bytes, planExt4 } from '../../image-builder/filesystem/ext4-plan.ts'
import type { Ext4Plan, Ext4Request } from '../../image-builder/filesystem/ext4-plan.ts'
import { compareBytes } from '../../scripts/tree.ts'
import type { EntryType, TreeEntry } from '../../scripts/tree.ts'

export const BLOCK_SIZES = [1024, 2048, 4096] as const

export const EPOCH_SECONDS = 1_700_000_000

/** Settings that every test filesystem shares. */
export const IDENTITY = {
  uuid: '01234567-89ab-cdef-0123-456789abcdef',
  hashSeed: 'fedcba98-7654-3210-fedc-ba9876543210',
  epochSeconds: EPOCH_SECONDS,
} as const

const DEFAULT_MODES: Readonly<Record<EntryType, number>> = {
  file: 0o100644,
  directory: 0o040755,
  symlink: 0o120777,
  'character-device': 0o020600,
  'block-device': 0o060600,
  fifo: 0o010600,
  socket: 0o140600,
}

/** An entry with dull metadata, except what is given. */
export function entryOf(path: string, type: EntryType, more: Partial<TreeEntry> = {}): TreeEntry {
  return {
    path,
    type,
    mode: DEFAULT_MODES[type],
    uid: 0,
    gid: 0,
    sizeBytes: 0,
    mtimeSeconds: 1_600_000_000,
    rdevMajor: 0,
    rdevMinor: 0,
    ...more,
  }
}

/** A file whose content is in memory. */
export function fileOf(path: string, content: string | Uint8Array, more: Partial<TreeEntry> = {}): TreeEntry {
  const source = typeof content === 'string' ? Buffer.from(content) : content
  return entryOf(path, 'file', { sizeBytes: source.length, source, ...more })
}

/** `others` and a root directory, in the order of `readTree`. */
export function treeOf(...others: readonly TreeEntry[]): TreeEntry[] {
  return [entryOf('', 'directory'), ...others].sort((a, b) => compareBytes(a.path, b.path))
}

/** Plan the smallest filesystem with `freeBytes` of space, or what `more` says. */
export function planOf(
  entries: readonly TreeEntry[],
  more: Partial<Ext4Request> & Pick<Ext4Request, 'blockSizeBytes'>,
): Ext4Plan {
  const { blockSizeBytes } = more
  const sizeBytes = minimumExt4Bytes(entries, { blockSizeBytes, freeBytes: 1024 * 1024 })
  return planExt4(entries, { ...IDENTITY, sizeBytes, ...more })
}

/** Write a plan to a new file. */
export function writePlan(imageFile: string, plan: Ext4Plan, offsetBytes = 0): void {
  const fileDescriptor = openSync(imageFile, 'w')
  try {
    writeExt4(fileDescriptor, offsetBytes, plan)
  } finally {
    closeSync(fileDescriptor)
  }
}

/** Complaints of e2fsck about a filesystem; `''` when it is clean. A missing e2fsck is an error. */
export function complaintsAbout(imageFile: string): string {
  const result = spawnSync('e2fsck', ['-fn', imageFile], { encoding: 'utf8' })
  if (result.error !== undefined) throw result.error
  const expected = /^(Pass \d: .*|e2fsck [\d.]+ .*|.*: \d+\/\d+ files .*|)$/
  const lines = `${result.stdout}\n${result.stderr}`.split('\n').filter((line) => !expected.test(line))
  return result.status === 0 ? lines.join('\n') : `exit status ${String(result.status)}\n${lines.join('\n')}`
}

/** Output of one debugfs request. A missing debugfs is an error. */
export function debugfs(imageFile: string, request: string): Buffer {
  return execFileSync('debugfs', ['-R', request, imageFile], {
    env: { ...process.env, TZ: 'UTC', LC_ALL: 'C.UTF-8' },
    maxBuffer: 1024 ** 3,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
}

/** What debugfs says about an inode, on one line. */
export function statOf(imageFile: string, path: string): string {
  return debugfs(imageFile, path.startsWith('<') ? `stat ${path}` : `stat "${path}"`)
    .toString('utf8')
    .replaceAll(/\s+/g, ' ')
}
