// SPDX-License-Identifier: Apache-2.0

/** Castagnoli polynomial, bit-reversed. Source: RFC 3720, section 12.1. */
const POLYNOMIAL = 0x82f63b78

/** Bytes consumed by one step of the main loop, each through a table of its own ("slicing by 8"). */
const SLICES = 8

const TABLES = createTables()

function createTables(): Int32Array {
  const tables = new Int32Array(SLICES * 256)
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? POLYNOMIAL : 0)
    tables[byte] = crc
  }
  for (let index = 256; index < tables.length; index++) {
    const previous = tables[index - 256] ?? 0
    tables[index] = (previous >>> 8) ^ (tables[previous & 0xff] ?? 0)
  }
  return tables
}

function lookUp(slice: number, byte: number): number {
  return TABLES[slice * 256 + (byte & 0xff)] ?? 0
}

/**
 * Continue a CRC-32C over `bytes`, without the final inversion.
 *
 * ext4 chains checksums by feeding the result of one as the start of the next, and stores the
 * register as it is. Start with `0xffffffff`.
 *
 * Source: linux/fs/ext4/ext4.h, `ext4_chksum`
 */
export function crc32c(start: number, bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  let crc = start | 0
  let at = 0
  for (; at + SLICES <= bytes.length; at += SLICES) {
    const low = crc ^ view.getInt32(at, true)
    const high = view.getInt32(at + 4, true)
    crc =
      lookUp(7, low) ^
      lookUp(6, low >>> 8) ^
      lookUp(5, low >>> 16) ^
      lookUp(4, low >>> 24) ^
      lookUp(3, high) ^
      lookUp(2, high >>> 8) ^
      lookUp(1, high >>> 16) ^
      lookUp(0, high >>> 24)
  }
  for (; at < bytes.length; at++) crc = (crc >>> 8) ^ lookUp(0, crc ^ view.getUint8(at))
  return crc >>> 0
}

/** Continue a CRC-32C over one little-endian 32-bit number. */
export function crc32cOfUint32(start: number, value: number): number {
  const low = start ^ value
  return (lookUp(3, low) ^ lookUp(2, low >>> 8) ^ lookUp(1, low >>> 16) ^ lookUp(0, low >>> 24)) >>> 0
}
