// SPDX-License-Identifier: Apache-2.0

/** What the thread of hash-behind is told. */
export interface HashJob {
  readonly file: string
  /** Three BigInt64: how far the file is written, whether that is all of it, and how often they changed. */
  readonly progress: SharedArrayBuffer
}

/** Places in `progress`. */
export const REACHED = 0
export const IS_COMPLETE = 1
export const CHANGES = 2
