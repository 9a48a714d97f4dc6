// SPDX-License-Identifier: Apache-2.0
import { closeSync, constants, openSync, readSync } from 'node:fs'
import { once } from 'node:events'
import type { Writable } from 'node:stream'

import type { EntryType, TreeEntry } from '../../scripts/tree.ts'
import { changedError } from './erofs-compress.ts'
import { inputError, nodesOf } from './nodes.ts'
import type { Node } from './nodes.ts'

/** Unit of an archive. Unit: bytes. Source: POSIX.1-2024, pax */
const BLOCK_BYTES = 512

const READ_BYTES = 1024 * 1024

/** Type flags. Source: POSIX.1-2024, pax, "ustar Interchange Format" */
const FLAGS: Readonly<Record<EntryType, string | undefined>> = {
  file: '0',
  symlink: '2',
  'character-device': '3',
  'block-device': '4',
  directory: '5',
  fifo: '6',
  socket: undefined,
}

const HARD_LINK = '1'
const EXTENDED = 'x'

/** GNU's way for a long target: sqfstar 4.5.1 takes the first slash off one in an extended header. */
const LONG_TARGET = 'K'

/** One member of an archive, as the headers say it. */
interface Member {
  readonly path: string
  readonly flag: string
  readonly linkPath: string
  readonly sizeBytes: number
}

/**
 * Write a tree as a pax archive to `sink`, and end `sink`: owners, modes, times, devices, hard links and
 * extended attributes are in it. No time is after `epochSeconds`.
 *
 * @throws BuildError E_INPUT when an entry cannot be in an archive, or a file is not as it was listed
 */
export async function writeTar(
  entries: readonly TreeEntry[],
  sink: Writable,
  epochSeconds: number,
): Promise<void> {
  const put = async (bytes: Uint8Array): Promise<void> => {
    if (!sink.write(bytes)) await once(sink, 'drain')
  }
  const nodes = nodesOf(entries)
  const byPath = new Map(nodes.flatMap((node) => node.paths.map((path): [string, Node] => [path, node])))
  for (const { path } of entries) {
    const node = byPath.get(path)
    // The root is in no archive: who unpacks it has one.
    if (node === undefined || path === '') continue
    const { entry } = node
    const isLink = path !== entry.path
    const flag = isLink ? HARD_LINK : FLAGS[entry.type]
    if (flag === undefined) throw inputError(path, 'is a socket, which no archive holds: remove it')
    const sizeBytes = isLink ? 0 : entry.sizeBytes
    const linkPath = isLink ? `./${entry.path}` : (entry.linkTarget ?? '')
    await put(headersOf(entry, { path, flag, linkPath, sizeBytes }, epochSeconds))
    if (sizeBytes === 0) continue
    await copyContent(entry, put)
    await put(Buffer.alloc(-sizeBytes & (BLOCK_BYTES - 1)))
  }
  await put(Buffer.alloc(2 * BLOCK_BYTES))
  sink.end()
}

async function copyContent(entry: TreeEntry, put: (bytes: Uint8Array) => Promise<void>): Promise<void> {
  const { source, sizeBytes } = entry
  if (typeof source !== 'string') {
    await put(source ?? Buffer.alloc(0))
    return
  }
  // Neither follow a link nor wait for a fifo that took the place of a file.
  const descriptor = openSync(source, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    for (let left = sizeBytes; ;) {
      // Not used again: it may still be on its way. One byte more shows a file that grew.
      const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, left + 1))
      const count = readSync(descriptor, buffer, 0, buffer.length, null)
      if (count > left || (count === 0 && left > 0)) throw changedError(entry)
      if (count === 0) return
      left -= count
      await put(buffer.subarray(0, count))
    }
  } finally {
    closeSync(descriptor)
  }
}

/** The header of a member, after one with everything that it has no room for. */
function headersOf(entry: TreeEntry, member: Member, epochSeconds: number): Buffer {
  const mtime = Math.min(entry.mtimeSeconds, epochSeconds)
  const path = `./${member.path}${entry.type === 'directory' ? '/' : ''}`
  const records: Buffer[] = []
  const fits = (text: string): boolean => Buffer.byteLength(text) <= 100
  if (!fits(path)) records.push(record('path', Buffer.from(path)))
  const isLongTarget = !fits(member.linkPath) && member.flag !== HARD_LINK
  if (!fits(member.linkPath) && !isLongTarget) records.push(record('linkpath', Buffer.from(member.linkPath)))
  if (entry.uid > 0o7777777) records.push(record('uid', Buffer.from(String(entry.uid))))
  if (entry.gid > 0o7777777) records.push(record('gid', Buffer.from(String(entry.gid))))
  if (member.sizeBytes > 0o77777777777) records.push(record('size', Buffer.from(String(member.sizeBytes))))
  for (const [name, value] of entry.xattrs ?? [])
    records.push(record(`SCHILY.xattr.${name}`, Buffer.from(value)))
  const extra = (flag: string, name: string, body: Buffer): Buffer[] =>
    body.length === 0
      ? []
      : [
          header(entry, { path: name, flag, linkPath: '', sizeBytes: body.length }, mtime),
          body,
          Buffer.alloc(-body.length & (BLOCK_BYTES - 1)),
        ]
  return Buffer.concat([
    ...extra(EXTENDED, './@PaxHeader', Buffer.concat(records)),
    ...extra(LONG_TARGET, '././@LongLink', Buffer.from(isLongTarget ? `${member.linkPath}\0` : '')),
    header(entry, { ...member, path }, mtime),
  ])
}

/** `<length> <name>=<value>\n`, the length of the whole in it. */
function record(name: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${name}=`), value, Buffer.from('\n')])
  let length = rest.length
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length
  return Buffer.concat([Buffer.from(String(length)), rest])
}

function header(entry: TreeEntry, { path, flag, linkPath, sizeBytes }: Member, mtime: number): Buffer {
  const bytes = Buffer.alloc(BLOCK_BYTES)
  const octal = (value: number, at: number, width: number): void => {
    const digits = Math.max(value, 0).toString(8)
    // What has no room is in the extended header.
    bytes.write(digits.length < width ? digits.padStart(width - 1, '0') : '0', at)
  }
  Buffer.from(path).copy(bytes, 0, 0, 100)
  octal(entry.mode & 0o7777, 100, 8)
  octal(entry.uid, 108, 8)
  octal(entry.gid, 116, 8)
  octal(sizeBytes, 124, 12)
  octal(mtime, 136, 12)
  bytes.write(flag, 156)
  Buffer.from(linkPath).copy(bytes, 157, 0, 100)
  bytes.write('ustar\x0000', 257, 'latin1')
  octal(entry.rdevMajor, 329, 8)
  octal(entry.rdevMinor, 337, 8)
  bytes.write('        ', 148)
  const sum = bytes.reduce((total, byte) => total + byte, 0)
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return bytes
}
