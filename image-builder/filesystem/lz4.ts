// SPDX-License-Identifier: Apache-2.0

/** Shortest match the format can say. Source: lz4, doc/lz4_Block_format.md */
const MIN_MATCH = 4

/** The last bytes of a block are literals. Source: the same, "End of block conditions" */
const LAST_LITERALS = 5

/** A match starts at least this far before the end of its block. Source: the same */
const MATCH_START_LIMIT = 12

/** Room kept for the end of a block: a token and as many literals as make any match before it allowed. */
const END_BYTES = 1 + MATCH_START_LIMIT - MIN_MATCH

/** Farthest match. Unit: bytes. Source: the same */
const MAX_DISTANCE = 65535

const HASH_BITS = 16

/** How hard is searched: `hc` looks at many earlier places and one byte ahead, `fast` at one place. */
export type Lz4Effort = 'fast' | 'hc'

/** Earlier places that `hc` looks at. More gives 0.5 % at twice the time. */
const HC_DEPTH = 24

/** What one call made of the input. */
export interface Lz4Result {
  /** Bytes of the input that were taken. */
  readonly consumed: number
  /** Bytes of the output that were written. */
  readonly produced: number
}

/** Compresses one buffer piece by piece, each piece a block of its own that fits a given room. */
export interface Lz4 {
  /**
   * Compress from `start` as much as fits into `output`, at most to `end`.
   *
   * `start` may not be smaller than in the call before. Matches reach back to `start` only, so every
   * block can be read alone.
   */
  readonly fill: (start: number, end: number, output: Uint8Array) => Lz4Result
}

/**
 * The LZ4 block format, filled to a size of output: what a compressed EROFS is made of.
 *
 * The bytes depend on the input alone: no tool, version or processor plays a part.
 *
 * Source: lz4, doc/lz4_Block_format.md
 */
export function openLz4(input: Uint8Array, effort: Lz4Effort): Lz4 {
  const depth = effort === 'hc' ? HC_DEPTH : 1
  // Places are kept one too high, so that 0 is none.
  const heads = new Int32Array(1 << HASH_BITS)
  const links = new Int32Array(MAX_DISTANCE + 1)
  let inserted = 0
  let matchLength = 0
  let matchPlace = 0

  const insertUpTo = (place: number, end: number): void => {
    const last = Math.min(place, end - MIN_MATCH + 1)
    for (; inserted < last; inserted++) {
      const hash = hashAt(input, inserted)
      links[inserted & MAX_DISTANCE] = heads[hash] as number
      heads[hash] = inserted + 1
    }
  }

  /** Find the longest match for `place`, longer than `least`; sets matchLength to 0 when there is none. */
  const search = (place: number, start: number, limit: number, least: number): void => {
    matchLength = 0
    let best = least
    const lowest = Math.max(start, place - MAX_DISTANCE)
    let candidate = (heads[hashAt(input, place)] as number) - 1
    for (let tries = depth; tries > 0 && candidate >= lowest;) {
      if (candidate < place) {
        tries--
        if (input[candidate + best] === input[place + best]) {
          const length = commonLength(input, candidate, place, limit)
          if (length > best && length >= MIN_MATCH) {
            best = length
            matchLength = length
            matchPlace = candidate
            if (place + best >= limit) return
          }
        }
      }
      const next = (links[candidate & MAX_DISTANCE] as number) - 1
      if (next >= candidate) return
      candidate = next
    }
  }

  const fill = (start: number, end: number, output: Uint8Array): Lz4Result => {
    const limit = end - LAST_LITERALS
    const lastStart = end - MATCH_START_LIMIT
    const room = output.length
    let at = 0
    let anchor = start
    if (inserted < start) inserted = start
    for (let place = start; place <= lastStart && place - anchor <= room - at;) {
      insertUpTo(place, end)
      search(place, start, limit, MIN_MATCH - 1)
      if (matchLength === 0) {
        // Where nothing repeats for long, less is looked at.
        place += effort === 'fast' ? 1 + ((place - anchor) >> 6) : 1
        continue
      }
      let length = matchLength
      let from = matchPlace
      while (effort === 'hc' && place < lastStart) {
        insertUpTo(place + 1, end)
        search(place + 1, start, limit, length)
        if (matchLength === 0) break
        place++
        length = matchLength
        from = matchPlace
      }
      while (place > anchor && from > start && input[place - 1] === input[from - 1]) {
        place--
        from--
        length++
      }
      const literals = place - anchor
      const bytes = 1 + extra(literals, 15) + literals + 2 + extra(length - MIN_MATCH, 15)
      if (at + bytes + END_BYTES > room) break
      at = putLiterals(output, at, input, anchor, literals, Math.min(length - MIN_MATCH, 15))
      const distance = place - from
      output[at++] = distance & 0xff
      output[at++] = distance >>> 8
      at = putLength(output, at, length - MIN_MATCH)
      place += length
      anchor = place
    }
    const literals = Math.min(end - anchor, mostLiterals(room - at))
    at = putLiterals(output, at, input, anchor, literals, 0)
    return { consumed: anchor + literals - start, produced: at }
  }
  return { fill }
}

function hashAt(input: Uint8Array, place: number): number {
  const word =
    (input[place] as number) |
    ((input[place + 1] as number) << 8) |
    ((input[place + 2] as number) << 16) |
    ((input[place + 3] as number) << 24)
  return Math.imul(word, -1640531535) >>> (32 - HASH_BITS)
}

function commonLength(input: Uint8Array, a: number, b: number, limit: number): number {
  let length = 0
  while (b + length < limit && input[a + length] === input[b + length]) length++
  return length
}

/** Bytes that a length takes beyond what its half of the token holds. */
function extra(length: number, token: number): number {
  return length < token ? 0 : 1 + Math.floor((length - token) / 255)
}

/** Most literals that fit with their token. */
function mostLiterals(room: number): number {
  let literals = Math.max(room - 1, 0)
  while (literals > 0 && 1 + extra(literals, 15) + literals > room) literals--
  return literals
}

function putLiterals(
  output: Uint8Array,
  start: number,
  input: Uint8Array,
  from: number,
  literals: number,
  matchToken: number,
): number {
  let at = start
  output[at++] = (Math.min(literals, 15) << 4) | matchToken
  at = putLength(output, at, literals)
  output.set(input.subarray(from, from + literals), at)
  return at + literals
}

/** The part of a length that its half of the token does not hold. */
function putLength(output: Uint8Array, start: number, length: number): number {
  if (length < 15) return start
  let at = start
  let left = length - 15
  for (; left >= 255; left -= 255) output[at++] = 255
  output[at++] = left
  return at
}
