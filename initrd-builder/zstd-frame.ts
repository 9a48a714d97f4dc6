// SPDX-License-Identifier: Apache-2.0

/**
 * Parts that were compressed each for itself, joined into one zstd frame. A kernel and `zstd -d` read it
 * as any other: several frames, or several archives, would not be one archive for everybody.
 *
 * A frame is a header and blocks. What a block may refer to is what came before it in the frame: content
 * (a part refers to its own alone), tables of codes (the first block of a frame brings its own), and the
 * three last offsets, which a frame begins with 1, 4 and 8. Only the last are wrong at the start of a
 * second part, so a few bytes are put there that set them: see `beginPart`.
 *
 * Source: RFC 8878, 3.1.1.
 */

const MAGIC = Buffer.from('28b52ffd', 'hex')

const WINDOW_BYTE = 5

/** Length of the start of the joined frame. Unit: bytes. */
export const FRAME_START_BYTES = 6

const BLOCK_HEADER_BYTES = 3
const RAW_BLOCK = 0
const RLE_BLOCK = 1

/** An empty block that is the last. */
export const FRAME_END = Buffer.from([1, 0, 0])

/** What one frame held. */
export interface FrameBlocks {
  /** Descriptor of a window that suffices; a larger number is a larger window. */
  readonly window: number
  /** Its blocks in pieces of any length, none of them marked as the last. */
  readonly pieces: readonly Buffer[]
}

/** Start of a frame with windows as large as `window` says, of unknown length and without a checksum. */
export function frameStart(window: number): Buffer {
  return Buffer.from([...MAGIC, 0, window])
}

/**
 * Take a frame apart that came in pieces. They are changed and used.
 *
 * @throws Error when it is none, has a checksum or a dictionary, or is not the only one
 */
export function takeBlocks(pieces: readonly Buffer[]): FrameBlocks {
  const [start = Buffer.alloc(0), ...rest] = pieces
  const { window, headerBytes } = readStart(start)
  const frameBytes = pieces.reduce((sum, { length }) => sum + length, 0)
  const find = finderIn(pieces)
  for (let at = headerBytes; at + BLOCK_HEADER_BYTES <= frameBytes;) {
    const first = find(at)
    const header = [first, find(at + 1), find(at + 2)].reduce(
      (bits, { piece, place }, index) => bits | ((piece[place] ?? 0) << (8 * index)),
      0,
    )
    const isLast = (header & 1) === 1
    const type = (header >> 1) & 3
    const next = at + BLOCK_HEADER_BYTES + (type === RLE_BLOCK ? 1 : header >> 3)
    if (isLast && next === frameBytes) {
      first.piece[first.place] = header & 0xfe
      return { window, pieces: [start.subarray(headerBytes), ...rest] }
    }
    if (isLast) break
    at = next
  }
  throw new Error('zstd wrote no whole frame, or more than one')
}

/** Finds the piece of a place, and the place in it; each place asked is behind the one before. */
function finderIn(pieces: readonly Buffer[]): (at: number) => { piece: Buffer; place: number } {
  let index = 0
  let startBytes = 0
  return (at) => {
    for (;;) {
      const piece = pieces[index]
      if (piece === undefined) throw new RangeError('behind the last piece')
      if (at < startBytes + piece.length) return { piece, place: at - startBytes }
      startBytes += piece.length
      index += 1
    }
  }
}

/** Length of the content size by its two bits, and of the dictionary's number. Unit: bytes. */
const SIZE_BYTES = [0, 2, 4, 8]

function readStart(frame: Buffer): { window: number; headerBytes: number } {
  const descriptor = frame[4] ?? 0
  const hasChecksum = (descriptor & 4) !== 0
  const hasDictionary = (descriptor & 3) !== 0
  if (!frame.subarray(0, MAGIC.length).equals(MAGIC) || hasChecksum || hasDictionary)
    throw new Error('zstd wrote no plain frame')
  const sizeCode = descriptor >> 6
  const isWhole = (descriptor & 0x20) !== 0
  if (!isWhole) {
    return { window: frame[WINDOW_BYTE] ?? 0, headerBytes: WINDOW_BYTE + 1 + (SIZE_BYTES[sizeCode] ?? 0) }
  }
  // The content is its own window.
  const sizeBytes = sizeCode === 0 ? 1 : (SIZE_BYTES[sizeCode] ?? 0)
  const field = sizeBytes === 8 ? frame.readBigUInt64LE(5) : BigInt(frame.readUIntLE(5, sizeBytes))
  const contentBytes = sizeBytes === 2 ? field + 256n : field
  const exponent = Math.max(0, contentBytes.toString(2).length - 10)
  return { window: exponent << 3, headerBytes: WINDOW_BYTE + sizeBytes }
}

/** Where a part of an archive begins with zeros ('0') by its format: the device number of a newc header. */
const ZEROS_AT = 78
const COPIED_AT = 86

/** How many bytes of a part `beginPart` takes. */
export const PART_START_BYTES = 95

/**
 * A compressed block of nine times '0' after eight of them, copied from 8, from 4 and from 1 byte before,
 * three bytes each: then these are the last offsets, as at the start of a frame.
 *
 * No literals; three sequences; one code each for literal lengths (none) and match lengths (3), and the
 * predefined one for offsets. Its states are 5 (code 3), 14 and 14 (code 2), read from the end:
 * 1 00101 011 01110 11 01110 00.
 *
 * Source: RFC 8878, 3.1.1.3.2 and appendix A.
 */
const LAST_OFFSETS = Buffer.from('440000' + '00' + '034400' + '00' + 'b8dd4a', 'hex')

/**
 * Blocks for the first bytes of a part, a newc header whose entry is no device.
 *
 * @throws Error when the zeros are not where the format has them
 */
export function beginPart(head: Buffer): Buffer {
  if (head.length !== PART_START_BYTES || !/^0+$/.test(head.toString('latin1', ZEROS_AT)))
    throw new Error('a part begins with the header of a device')
  const rawHeader = Buffer.alloc(BLOCK_HEADER_BYTES)
  rawHeader.writeUIntLE((COPIED_AT << 3) | (RAW_BLOCK << 1), 0, BLOCK_HEADER_BYTES)
  return Buffer.concat([rawHeader, head.subarray(0, COPIED_AT), LAST_OFFSETS])
}
