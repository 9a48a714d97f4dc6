// SPDX-License-Identifier: Apache-2.0

/** What the thread of hash-behind is told. */
export interface HashJob {
  readonly file: string
  /** BigInt64: the counters below, then the ring of spans. */
  readonly progress: SharedArrayBuffer
  /** Bytes on their way to the file. */
  readonly buffers: readonly SharedArrayBuffer[]
}

/** Places in `progress`: how many spans were given, and how many are hashed. */
export const GIVEN = 0
export const HASHED = 1
const COUNTERS = 2

/** The next part of the file: where it ends, and where its bytes are. */
export interface Span {
  /** Unit: bytes from the start of the file. */
  readonly endBytes: number
  /** A buffer's number, or one of the two below. */
  readonly from: number
}

export const FROM_FILE = -1
export const FROM_ZEROS = -2

/** How many spans may wait. */
const RING_SPANS = 16

/** The thread failed: everything counts as hashed, so that nobody waits for it. */
export const FAILED = 2n ** 62n

export function newProgress(): BigInt64Array<SharedArrayBuffer> {
  const places = COUNTERS + 2 * RING_SPANS
  return new BigInt64Array(new SharedArrayBuffer(places * BigInt64Array.BYTES_PER_ELEMENT))
}

/** Give a span to the other thread, waiting while too many wait. Returns its number. */
export function giveSpan(progress: BigInt64Array, { endBytes, from }: Span): bigint {
  const number = Atomics.load(progress, GIVEN)
  waitForHashed(progress, number - BigInt(RING_SPANS) + 1n)
  const place = placeOf(number)
  Atomics.store(progress, place, BigInt(endBytes))
  Atomics.store(progress, place + 1, BigInt(from))
  Atomics.store(progress, GIVEN, number + 1n)
  Atomics.notify(progress, GIVEN)
  return number + 1n
}

/** Wait until that many spans are hashed. */
export function waitForHashed(progress: BigInt64Array, count: bigint): void {
  for (;;) {
    const hashed = Atomics.load(progress, HASHED)
    if (hashed >= count) return
    Atomics.wait(progress, HASHED, hashed)
  }
}

/** The span of that number, once it is given. */
export function takeSpan(progress: BigInt64Array, number: bigint): Span {
  for (;;) {
    const given = Atomics.load(progress, GIVEN)
    if (given > number) break
    Atomics.wait(progress, GIVEN, given)
  }
  const place = placeOf(number)
  return {
    endBytes: Number(Atomics.load(progress, place)),
    from: Number(Atomics.load(progress, place + 1)),
  }
}

function placeOf(number: bigint): number {
  return COUNTERS + 2 * Number(number % BigInt(RING_SPANS))
}
