// SPDX-License-Identifier: Apache-2.0
import { promisify } from 'node:util'
import { constants, inflateRaw } from 'node:zlib'
import type { InputType, ZlibOptions } from 'node:zlib'

import { extract } from 'tar-stream'
import type { Header } from 'tar-stream'

import { BuildError } from '../../../scripts/errors.ts'

/** One of the gzip streams that an index or a package is made of. */
export interface Member {
  /** As it is in the file; signatures and digests are of these bytes. */
  readonly compressed: Buffer
  /** A tar archive, without end mark in all but the last. */
  readonly content: Buffer
}

/** What a tar archive tells of an entry, as far as packages use it. */
export type EntryHeader = Readonly<
  Pick<Header, 'name' | 'type' | 'mode' | 'uid' | 'gid' | 'uname' | 'gname' | 'linkname' | 'mtime'>
>

export interface TarEntry {
  readonly header: EntryHeader
  readonly body: Buffer
  /** Extended attributes by their full names, in byte order; absent for none. */
  readonly xattrs?: ReadonlyMap<string, Buffer>
}

/** No package is larger than this when it is unpacked. Unit: bytes. */
const MOST_BYTES = 2 ** 31 - 1

/** Flags of a gzip header. Source: RFC 1952, 2.3.1 */
const FLAG = { headerCrc: 2, extra: 4, name: 8, comment: 16 } as const

interface Inflated {
  readonly buffer: Buffer
  readonly engine: { readonly bytesWritten: number }
}

// With `info` zlib also tells how far it has read, which is where the next stream begins.
const inflate = promisify(inflateRaw) as unknown as (
  input: InputType,
  options: ZlibOptions & { info: true },
) => Promise<Inflated>

/**
 * Split an index or a package into its gzip streams.
 *
 * @param name of the file, for errors
 * @throws BuildError E_INPUT when it is none, or of the format of apk-tools 3
 */
export async function gzipMembers(file: Buffer, name: string): Promise<Member[]> {
  if (file.subarray(0, 3).toString('latin1') === 'ADB') {
    throw new BuildError(
      'E_INPUT',
      `${name}: is in the format of apk-tools 3 (ADB), which is not read here`,
      {
        hint: 'use a release or a mirror with packages in the format of apk-tools 2',
      },
    )
  }
  const members: Member[] = []
  for (let at = 0; at < file.length;) {
    const start = at + headerBytes(file, at, name)
    const { buffer, engine } = await inflate(file.subarray(start), {
      info: true,
      maxOutputLength: MOST_BYTES,
      finishFlush: constants.Z_SYNC_FLUSH,
    }).catch((error: unknown) => {
      throw broken(name, error)
    })
    // The checksum and the length of the content follow each stream.
    const end = start + engine.bytesWritten + 8
    if (end > file.length || file.readUInt32LE(end - 4) !== buffer.length % 2 ** 32) throw broken(name)
    members.push({ compressed: file.subarray(at, end), content: buffer })
    at = end
  }
  return members
}

function headerBytes(file: Buffer, at: number, name: string): number {
  if (file.length - at < 18 || file.readUInt16BE(at) !== 0x1f8b) throw broken(name)
  const flags = file[at + 3] ?? 0
  let end = at + 10
  if ((flags & FLAG.extra) !== 0) end += 2 + file.readUInt16LE(end)
  for (const flag of [FLAG.name, FLAG.comment]) {
    if ((flags & flag) === 0) continue
    const zero = file.indexOf(0, end)
    if (zero === -1) throw broken(name)
    end = zero + 1
  }
  if ((flags & FLAG.headerCrc) !== 0) end += 2
  return end - at
}

function broken(name: string, cause?: unknown): BuildError {
  return new BuildError('E_SIGNATURE', `${name}: is damaged`, {
    because: ['it is no complete gzip file'],
    hint: 'try again later or use another mirror with REPO_URL',
    cause,
  })
}

/** Every entry of a tar archive, in its order. */
export async function readTar(content: Buffer, name: string): Promise<TarEntry[]> {
  const entries: TarEntry[] = []
  const reader = extract()
  reader.end(content)
  let end = 0
  try {
    for await (const entry of reader) {
      const chunks: Buffer[] = []
      for await (const chunk of entry) chunks.push(chunk as Buffer)
      const { header } = entry
      const body = Buffer.concat(chunks)
      const at = byteOffset(header)
      const xattrs = hasXattrs(header) ? xattrsBetween(content, end, at - BLOCK_BYTES) : undefined
      end = at + padded(body.length)
      entries.push({ header, body, ...(xattrs === undefined ? {} : { xattrs }) })
    }
  } catch (error) {
    throw broken(name, error)
  }
  return entries
}

/** Unit of a tar archive. Source: tar(5) */
const BLOCK_BYTES = 512

/** Prefix of an extended attribute in the records of a pax header. Source: tar(1), pax of SCHILY */
const XATTR = 'SCHILY.xattr.'

/** Where an entry's content begins; tar-stream tells it and its types do not. */
function byteOffset(header: Header): number {
  return (header as Header & { readonly byteOffset: number }).byteOffset
}

function padded(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES
}

function hasXattrs({ pax }: Header): boolean {
  return Object.keys(pax ?? {}).some((key) => key.startsWith(XATTR))
}

/**
 * The attributes that the pax headers before an entry hold.
 *
 * tar-stream 3.2 takes their values for UTF-8, which a capability is not, so they are read again.
 */
function xattrsBetween(content: Buffer, start: number, end: number): ReadonlyMap<string, Buffer> {
  const found: [string, Buffer][] = []
  for (let at = start; at < end;) {
    const size = Number.parseInt(content.toString('latin1', at + 124, at + 136).trim(), 8) || 0
    const records = content.subarray(at + BLOCK_BYTES, at + BLOCK_BYTES + size)
    // The kind of header: x is of the entry that follows, g of all.
    if ('xg'.includes(String.fromCharCode(content[at + 156] ?? 0))) found.push(...xattrRecords(records))
    at += BLOCK_BYTES + padded(size)
  }
  return new Map(found.sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** Records are `length key=value` and a line feed, the length that of all of it. Source: pax(1) */
function xattrRecords(records: Buffer): [string, Buffer][] {
  const found: [string, Buffer][] = []
  for (let at = 0; at < records.length;) {
    const space = records.indexOf(' ', at)
    const length = Number(records.toString('latin1', at, space))
    if (space === -1 || !(length > 0)) break
    const equals = records.indexOf('=', space)
    const key = records.toString('utf8', space + 1, equals)
    if (key.startsWith(XATTR)) {
      found.push([key.slice(XATTR.length), records.subarray(equals + 1, at + length - 1)])
    }
    at += length
  }
  return found
}
