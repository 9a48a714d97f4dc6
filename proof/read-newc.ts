// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../scripts/errors.ts'
import { TYPE_OF_MODE } from '../scripts/tree.ts'
import type { TreeEntry } from '../scripts/tree.ts'

/** Header up to the name, and the place of its fields. Source: buffer-format.rst (kernel). */
const HEADER_BYTES = 110
const FIELDS = {
  ino: 0,
  mode: 1,
  uid: 2,
  gid: 3,
  nlink: 4,
  mtime: 5,
  size: 6,
  major: 9,
  minor: 10,
  nameBytes: 11,
} as const

const align4 = (offset: number): number => (offset + 3) & ~3

/**
 * The entries of an unpacked newc archive, in its order; content stays where it is in `archive`.
 *
 * The last name of an inode has its content, and the others get it too.
 *
 * @throws BuildError E_DIGEST when it is no such archive, or is cut short
 */
export function readNewc(archive: Buffer, name: string): TreeEntry[] {
  const entries: TreeEntry[] = []
  for (let at = 0; ;) {
    if (archive.subarray(at, at + 6).toString('latin1') !== '070701') throw broken(name, at)
    const field = (index: number): number =>
      parseInt(archive.subarray(at + 6 + 8 * index, at + 14 + 8 * index).toString('latin1'), 16)
    const nameEnd = at + HEADER_BYTES + field(FIELDS.nameBytes)
    const path = archive.subarray(at + HEADER_BYTES, nameEnd - 1).toString('utf8')
    const start = align4(nameEnd)
    const size = field(FIELDS.size)
    // Not start: the rounding makes a number of what is none.
    if (!Number.isFinite(nameEnd + size) || start + size > archive.length) throw broken(name, at)
    if (path === 'TRAILER!!!') return withLinkedContent(entries)
    const mode = field(FIELDS.mode)
    const type = TYPE_OF_MODE.get(mode & 0o170000)
    if (type === undefined) throw broken(name, at)
    const content = archive.subarray(start, start + size)
    entries.push({
      path: path === '.' ? '' : path.replace(/^(\.?\/)+/, ''),
      type,
      mode,
      uid: field(FIELDS.uid),
      gid: field(FIELDS.gid),
      sizeBytes: type === 'file' ? size : 0,
      mtimeSeconds: field(FIELDS.mtime),
      rdevMajor: field(FIELDS.major),
      rdevMinor: field(FIELDS.minor),
      ...(type === 'symlink' ? { linkTarget: content.toString('utf8') } : {}),
      ...(type === 'file' ? { source: content } : {}),
      ...(type === 'file' && field(FIELDS.nlink) > 1 ? { linkGroup: String(field(FIELDS.ino)) } : {}),
    })
    at = align4(start + size)
  }
}

function withLinkedContent(entries: readonly TreeEntry[]): TreeEntry[] {
  const full = new Map(
    entries
      .filter(({ linkGroup, sizeBytes }) => linkGroup !== undefined && sizeBytes > 0)
      .map((entry) => [entry.linkGroup, entry]),
  )
  return entries.map((entry) => {
    const one = entry.linkGroup === undefined ? undefined : full.get(entry.linkGroup)
    return one?.source === undefined ? entry : { ...entry, source: one.source, sizeBytes: one.sizeBytes }
  })
}

function broken(name: string, at: number): BuildError {
  return new BuildError('E_DIGEST', `${name}: is no complete cpio archive`, {
    because: [`no entry begins at byte ${String(at)} of what it unpacks to`],
    hint: 'build it again, or get it again from who built it',
  })
}
