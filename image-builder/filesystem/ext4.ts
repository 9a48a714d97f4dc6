// SPDX-License-Identifier: Apache-2.0
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync } from 'node:fs'

import { BuildError, errnoOf } from '../../scripts/errors.ts'
import { BUFFER_BYTES, plainBuffers } from '../../scripts/hash-behind.ts'
import type { WriteBuffers } from '../../scripts/hash-behind.ts'
import { writeAll } from '../../scripts/write-all.ts'
import type { FilePiece, Piece } from './ext4-plan.ts'

/** Any filesystem to the last byte, except the content of host files. */
export interface WritePlan {
  readonly sizeBytes: number
  /** In order of place, none over another. What they leave out is zero. */
  readonly pieces: readonly Piece[]
}

/** Runs of zeros of this length and place are left as holes. Unit: bytes. */
const HOLE_BYTES = 64 * 1024

/** Gaps up to one block are filled with zeros, longer ones become holes. */
const MAX_FILLED_GAP_BYTES = 4096

const ZEROS = Buffer.alloc(HOLE_BYTES)

// Neither follow a link nor wait for a fifo that took the place of a file.
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** Collects bytes in order of place, and writes them in large runs. */
interface Output {
  readonly moveTo: (offsetBytes: number) => void
  readonly put: (bytes: Uint8Array) => void
  readonly copy: (piece: FilePiece, fileDescriptor: number) => void
  readonly flush: () => void
}

/**
 * Write a planned filesystem at `offsetBytes` of an open file.
 *
 * That part of the file must be zero or not there yet: zeros are not written. Every host file is
 * read once, from its start to its end.
 *
 * @param buffers are told, in bytes of the open file, what is written
 * @throws BuildError E_INPUT when a host file is not as it was planned; an error of the file written
 *   to, such as ENOSPC, as it is
 */
export function writeExt4(
  fileDescriptor: number,
  offsetBytes: number,
  plan: WritePlan,
  buffers: WriteBuffers = plainBuffers(),
): void {
  const endBytes = offsetBytes + plan.sizeBytes
  if (fstatSync(fileDescriptor).size < endBytes) ftruncateSync(fileDescriptor, endBytes)
  const output = openOutput(fileDescriptor, offsetBytes, buffers)
  // Kept over the pieces of one file, between which metadata may lie.
  let source: { readonly hostPath: string; readonly fileDescriptor: number } | undefined
  try {
    for (const piece of plan.pieces) {
      if ('bytes' in piece) {
        output.moveTo(piece.offsetBytes)
        output.put(piece.bytes)
        continue
      }
      source ??= { hostPath: piece.hostPath, fileDescriptor: openHostFile(piece.hostPath) }
      if (piece.lengthBytes > 0) output.moveTo(piece.offsetBytes)
      output.copy(piece, source.fileDescriptor)
      if (!piece.isLast) continue
      const { fileDescriptor: done } = source
      source = undefined
      closeSync(done)
    }
  } finally {
    if (source !== undefined) closeSync(source.fileDescriptor)
  }
  output.flush()
}

function openHostFile(hostPath: string): number {
  try {
    return openSync(hostPath, READ_FLAGS)
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'ENOENT' || errno === 'ENOTDIR' || errno === 'ELOOP') throw changedError(hostPath, error)
    throw error
  }
}

function changedError(hostPath: string, cause?: unknown): BuildError {
  return new BuildError('E_INPUT', `${hostPath}: changed while it was being packed`, {
    hint: 'stop what writes to the tree, and build again',
    cause,
  })
}

function openOutput(fileDescriptor: number, offsetBytes: number, buffers: WriteBuffers): Output {
  let buffer = buffers.take()
  let start = 0
  let filled = 0

  const flush = (): void => {
    if (filled === 0) return
    writeRuns(fileDescriptor, buffer.subarray(0, filled), offsetBytes + start)
    buffers.written(filled, offsetBytes + start)
    buffer = buffers.take()
    start += filled
    filled = 0
  }
  const moveTo = (wanted: number): void => {
    const gap = wanted - start - filled
    if (gap === 0) return
    if (gap > 0 && gap <= MAX_FILLED_GAP_BYTES && filled + gap <= BUFFER_BYTES) {
      buffer.fill(0, filled, filled + gap)
      filled += gap
      return
    }
    flush()
    start = wanted
  }
  const put = (bytes: Uint8Array): void => {
    for (let done = 0; done < bytes.length;) {
      if (filled === BUFFER_BYTES) flush()
      const part = bytes.subarray(done, done + BUFFER_BYTES - filled)
      buffer.set(part, filled)
      filled += part.length
      done += part.length
    }
  }
  const copy = ({ hostPath, lengthBytes, isLast }: FilePiece, source: number): void => {
    let left = lengthBytes
    for (;;) {
      if (filled === BUFFER_BYTES) flush()
      const room = BUFFER_BYTES - filled
      const isEndInRoom = left <= room
      const wanted = isEndInRoom ? left + (isLast ? 1 : 0) : room
      const count =
        wanted === 0 ? 0 : readHostFile(hostPath, source, buffer.subarray(filled, filled + wanted))
      if (count > left || (count === 0 && left > 0)) throw changedError(hostPath)
      filled += count
      left -= count
      if (left === 0) return
    }
  }
  return { moveTo, put, copy, flush }
}

function readHostFile(hostPath: string, source: number, target: Buffer): number {
  try {
    return readSync(source, target, 0, target.length, null)
  } catch (error) {
    if (errnoOf(error) === 'EISDIR') throw changedError(hostPath, error)
    throw error
  }
}

/** Write `bytes`, except long runs of zeros. */
function writeRuns(fileDescriptor: number, bytes: Buffer, positionBytes: number): void {
  let runStart = 0
  for (let at = 0; at < bytes.length; at += HOLE_BYTES) {
    const end = Math.min(at + HOLE_BYTES, bytes.length)
    if (!isZero(bytes, at, end)) continue
    writeAll(fileDescriptor, bytes.subarray(runStart, at), positionBytes + runStart)
    runStart = end
  }
  writeAll(fileDescriptor, bytes.subarray(runStart), positionBytes + runStart)
}

function isZero(bytes: Buffer, start: number, end: number): boolean {
  // The first byte alone answers for most content.
  return bytes[start] === 0 && bytes.compare(ZEROS, 0, end - start, start, end) === 0
}
