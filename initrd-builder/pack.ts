// SPDX-License-Identifier: Apache-2.0
import { once } from 'node:events'
import { closeSync, openSync, readSync } from 'node:fs'
import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { setImmediate as nextTurn } from 'node:timers/promises'

import { pack as openPack } from 'cpio-stream'
import type { Pack } from 'cpio-stream'

import { BuildError, errnoOf } from '../scripts/errors.ts'
import type { TreeEntry } from '../scripts/tree.ts'
import { newcEntries, newcSizeBytes } from './newc.ts'
import type { NewcBody, NewcEntry, NewcOptions } from './newc.ts'

const MIB_BYTES = 1 << 20

/** A file up to this size is read whole, which costs no promise. */
const SMALL_FILE_BYTES = MIB_BYTES

const READ_BYTES = MIB_BYTES

/** Headers and small bodies go out in blocks of this size: one write for some fifty entries. */
const BLOCK_BYTES = 256 << 10

const NO_BODY = Buffer.alloc(0)

/**
 * Write `entries` as one newc archive to `sink`, and end `sink`.
 *
 * The archive is padded to 512 bytes, so archives can be concatenated. Every file is opened once and
 * read once. When this fails `sink` is destroyed, and what it has received is not an archive: a
 * compressor behind it may still end well.
 *
 * @throws BuildError E_INPUT when an entry cannot be packed, or a file's size is no longer what the entry says
 * @throws BuildError E_PERMISSION when a file may not be read
 * @throws Error the error of `sink` as it is (`EPIPE`, `ENOSPC`)
 */
export async function packNewc(
  entries: readonly TreeEntry[],
  sink: Writable,
  options: NewcOptions,
): Promise<{ sizeBytes: number }> {
  try {
    const described = newcEntries(entries, options)
    const sizeBytes = newcSizeBytes(described)
    await packPart({ entries: described, sizeBytes }, sink)
    return { sizeBytes }
  } catch (error) {
    sink.destroy()
    throw error
  }
}

/** Entries of an archive that follow each other. */
export interface NewcPart {
  readonly entries: readonly NewcEntry[]
  /** With the end of the archive, for the last part. */
  readonly sizeBytes: number
}

/**
 * Write a part of an archive to `sink`, and end `sink`. Fails as packNewc does.
 *
 * @param headBytes how much of its start is returned instead of written
 */
export async function packPart(part: NewcPart, sink: Writable, headBytes = 0): Promise<Buffer> {
  const ended = endOf(sink)
  try {
    const outlet = openOutlet(sink, ended, part.sizeBytes, headBytes)
    // Back-pressure is the outlet's business, so cpio-stream's own mark is set where it never holds up a chunk.
    const pack = openPack({ format: 'newc', highWaterMark: 2 * READ_BYTES })
    pack.on('data', outlet.write)
    const room = { bytes: Buffer.alloc(0) }
    for (const entry of part.entries) {
      // Until its first turn of the event loop the stream only collects, whatever the sink says.
      if (pack.readableLength > 0) await nextTurn()
      if (outlet.isBusy()) await outlet.ready()
      if (isLarge(entry)) await packLarge(pack, entry, outlet)
      else packSmall(pack, entry, room)
    }
    pack.finalize()
    await once(pack, 'end')
    return await outlet.end()
  } catch (error) {
    sink.destroy()
    throw error
  }
}

interface Outlet {
  readonly write: (chunk: Buffer) => void
  /** True while the sink has more than it wants. */
  readonly isBusy: () => boolean
  /** Settle when the sink wants more, or has failed. */
  readonly ready: () => Promise<void>
  /** Fill, flush and end the sink. Returns what was kept back. */
  readonly end: () => Promise<Buffer>
}

/** Settle when the sink has taken all, or has failed or closed early. */
function endOf(sink: Writable): Promise<void> {
  if (!sink.writable) throw new Error('the archive has nowhere to go: the stream is closed')
  const ended = finished(sink, { readable: false })
  // Whoever waits reports the failure; when the sink breaks nobody may be waiting yet.
  ended.catch(() => undefined)
  return ended
}

/**
 * Collect small chunks into blocks: a pipe takes one large write where it would take thousands.
 *
 * What comes is cut and filled with NULs to `archiveBytes`, and its first `headBytes` are kept back.
 */
function openOutlet(sink: Writable, ended: Promise<void>, archiveBytes: number, headBytes: number): Outlet {
  const head = Buffer.alloc(headBytes)
  let headFilledBytes = 0
  // Used again when the sink has them no more: new memory costs more than what is copied into it.
  const free: Buffer[] = []
  const takeBlock = (): Buffer => free.pop() ?? Buffer.allocUnsafe(BLOCK_BYTES)
  let block = takeBlock()
  let filledBytes = 0
  let roomBytes = archiveBytes

  const flush = (): void => {
    if (filledBytes === 0) return
    const full = block
    sink.write(full.subarray(0, filledBytes), () => free.push(full))
    block = takeBlock()
    filledBytes = 0
  }
  const write = (data: Buffer): void => {
    const wanted = data.subarray(0, roomBytes)
    roomBytes -= wanted.length
    const keptBytes = headFilledBytes < headBytes ? wanted.copy(head, headFilledBytes) : 0
    headFilledBytes += keptBytes
    const chunk = wanted.subarray(keptBytes)
    if (filledBytes + chunk.length > BLOCK_BYTES) flush()
    if (chunk.length > BLOCK_BYTES) {
      sink.write(chunk)
      return
    }
    filledBytes += chunk.copy(block, filledBytes)
  }
  return {
    write,
    isBusy: () => sink.writableNeedDrain || sink.destroyed,
    ready: () => Promise.race([once(sink, 'drain').then(() => undefined), ended]),
    end: async () => {
      write(Buffer.alloc(roomBytes))
      flush()
      sink.end()
      await ended
      return head
    },
  }
}

type LargeEntry = NewcEntry & { readonly body: NewcBody & { readonly source: string } }

function isLarge(entry: NewcEntry): entry is LargeEntry {
  const { body } = entry
  return body !== undefined && typeof body.source === 'string' && body.sizeBytes > SMALL_FILE_BYTES
}

/** Memory for the body of one entry after the other. */
interface Room {
  bytes: Buffer
}

/**
 * Write an entry whose body fits in memory.
 *
 * cpio-stream 1.4.3 takes a body given as a Buffer without regard to back-pressure. That is the fast
 * way (no stream per entry) and safe here: the outlet is asked before each entry, so what waits in
 * memory is one body at most.
 */
function packSmall(pack: Pack, { path, header, body }: NewcEntry, room: Room): void {
  pack.entry({ ...header }, body === undefined ? NO_BODY : readWhole(path, body, room))
  // What the stream, or the sink by way of the outlet, still holds must stay as it is.
  if (pack.readableLength > 0 || (body?.sizeBytes ?? 0) > BLOCK_BYTES) room.bytes = NO_BODY
}

function readWhole(path: string, { source, sizeBytes }: NewcBody, room: Room): Buffer {
  if (typeof source !== 'string') {
    if (source.length !== sizeBytes) throw changed(path)
    return Buffer.from(source.buffer, source.byteOffset, source.length)
  }
  try {
    // One byte more than expected, so that a file that grew shows.
    if (room.bytes.length <= sizeBytes) room.bytes = Buffer.allocUnsafe(Math.max(sizeBytes + 1, BLOCK_BYTES))
    return readSmall(path, source, sizeBytes, room.bytes)
  } catch (error) {
    return nameFile(path)(error)
  }
}

function readSmall(path: string, hostPath: string, sizeBytes: number, bytes: Buffer): Buffer {
  const file = openSync(hostPath, 'r')
  try {
    let length = 0
    while (length <= sizeBytes) {
      const count = readSync(file, bytes, length, sizeBytes + 1 - length, null)
      if (count === 0) break
      length += count
    }
    if (length !== sizeBytes) throw changed(path)
    return bytes.subarray(0, sizeBytes)
  } finally {
    closeSync(file)
  }
}

/** Write an entry whose file is read piece by piece, the next piece when the sink wants it. */
async function packLarge(pack: Pack, entry: LargeEntry, outlet: Outlet): Promise<void> {
  const file = await open(entry.body.source, 'r').catch(nameFile(entry.path))
  try {
    await new Promise<void>((resolve, reject) => {
      const body = pack.entry({ ...entry.header }, (error) => {
        if (error) reject(error)
        else resolve()
      })
      copyBody(file, entry, async (piece) => {
        body.write(piece)
        if (outlet.isBusy()) await outlet.ready()
      }).then(() => body.end(), reject)
    })
  } finally {
    await file.close()
  }
}

async function copyBody(
  file: FileHandle,
  entry: LargeEntry,
  write: (piece: Buffer) => Promise<void>,
): Promise<void> {
  let leftBytes = entry.body.sizeBytes
  for (;;) {
    // A new buffer each time: the last piece may still be on its way to the sink.
    const piece = Buffer.allocUnsafe(READ_BYTES)
    const { bytesRead } = await file.read(piece, 0, READ_BYTES, null).catch(nameFile(entry.path))
    leftBytes -= bytesRead
    if (leftBytes < 0 || (bytesRead === 0 && leftBytes > 0)) throw changed(entry.path)
    if (bytesRead === 0) return
    await write(piece.subarray(0, bytesRead))
  }
}

function changed(path: string): BuildError {
  return new BuildError('E_INPUT', `${path}: changed while it was being packed`, {
    hint: 'stop what writes to the rootfs, then build again',
  })
}

/** What to do with a failure to read `path`: say which file, and what its user can do. */
function nameFile(path: string): (error: unknown) => never {
  return (error) => {
    const errno = errnoOf(error)
    if (errno === 'ENOENT' || errno === 'EISDIR') throw changed(path)
    if (errno === 'EACCES' || errno === 'EPERM') {
      throw new BuildError('E_PERMISSION', `${path}: cannot be read`, { cause: error })
    }
    throw error
  }
}
