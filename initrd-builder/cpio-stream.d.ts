// SPDX-License-Identifier: Apache-2.0

/** The part of cpio-stream 1.4.3 that osbuilder uses; the package brings no types. */
declare module 'cpio-stream' {
  import type { Readable, Writable } from 'node:stream'

  /** What `entry()` reads. It writes its defaults into the object it is given: hand it a copy. */
  export interface EntryHeader {
    name: string
    mode: number
    uid: number
    gid: number
    nlink: number
    ino: number
    mtime: Date
    size: number
    rdevmajor: number
    rdevminor: number
    linkname?: string
  }

  export interface Pack extends Readable {
    /** Write header and body at once, without regard to back-pressure. */
    entry(header: EntryHeader, body: Buffer): Writable
    /** Write the header; the body of exactly `header.size` bytes is written to what is returned. */
    entry(header: EntryHeader, done: (error?: Error | null) => void): Writable
    /** Write the trailer and end the stream. */
    finalize(): void
  }

  export function pack(options: { readonly format: 'newc'; readonly highWaterMark?: number }): Pack
}
