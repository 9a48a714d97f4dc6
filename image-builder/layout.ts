// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../scripts/errors.ts'

/** Unit: bytes. */
export const SECTOR_BYTES = 512
const MIB = 1024 * 1024

/** The NVDIMM driver skips this much of a device that carries a DAX header. Unit: bytes. Source: `dataoff`, below. */
const DAX_BYTES = 2 * MIB

/** First partition of a disk, where every tool puts it. Unit: bytes. */
const PARTITION_START_BYTES = 1 * MIB

/** The NVDIMM driver looks for its namespace info block at this offset. Unit: bytes. Source: linux/drivers/nvdimm/pfn.h */
const PFN_INFO_OFFSET_BYTES = 4096

/** MBR partition type of a Linux filesystem. */
const TYPE_LINUX = 0x83

/** Largest sector number an MBR can hold. */
const MAX_SECTOR = 0xffffffff

export interface LayoutRequest {
  readonly imageBytes: number
  readonly daxHeader: boolean
  /** Four bytes that name the disk, so that two images are told apart. */
  readonly diskSignature: number
  /** Length of a second partition, for the hash tree of the first; none without it. */
  readonly hashBytes?: number
}

export interface Piece {
  readonly offsetBytes: number
  readonly bytes: Uint8Array
}

export interface ImageLayout {
  readonly imageBytes: number
  readonly filesystemOffsetBytes: number
  readonly filesystemBytes: number
  /** The second partition; 0 bytes long when there is none. */
  readonly hashOffsetBytes: number
  readonly hashBytes: number
  /** Everything of the image that is not in a partition. */
  readonly pieces: readonly Piece[]
}

/** Bytes of an image in front of its filesystem. */
export function overheadBytes(daxHeader: boolean): number {
  return PARTITION_START_BYTES + (daxHeader ? DAX_BYTES : 0)
}

/**
 * Lay out a disk image with one partition to its end, or two of which the second is `hashBytes` long.
 *
 * With the DAX header there are two partition tables for the same partitions: a virtio-blk guest reads
 * the first, an NVDIMM guest skips 2 MiB and reads the second.
 * ```
 * 0 MBR 1 | 4 KiB info block | 2 MiB MBR 2 | 3 MiB filesystem … | hash tree … end
 * ```
 */
export function layoutImage(request: LayoutRequest): ImageLayout {
  const { imageBytes, daxHeader, diskSignature, hashBytes = 0 } = request
  const filesystemOffsetBytes = overheadBytes(daxHeader)
  const filesystemBytes = imageBytes - filesystemOffsetBytes - hashBytes
  const hashOffsetBytes = filesystemOffsetBytes + filesystemBytes
  const table = (skippedBytes: number): Uint8Array =>
    mbr({
      partitions: [
        { startBytes: filesystemOffsetBytes - skippedBytes, sizeBytes: filesystemBytes },
        { startBytes: hashOffsetBytes - skippedBytes, sizeBytes: hashBytes },
      ].filter(({ sizeBytes }) => sizeBytes > 0),
      diskSignature,
    })
  const pieces = daxHeader
    ? [
        { offsetBytes: 0, bytes: table(0) },
        { offsetBytes: PFN_INFO_OFFSET_BYTES, bytes: pfnInfoBlock() },
        { offsetBytes: DAX_BYTES, bytes: table(DAX_BYTES) },
      ]
    : [{ offsetBytes: 0, bytes: table(0) }]
  return { imageBytes, filesystemOffsetBytes, filesystemBytes, hashOffsetBytes, hashBytes, pieces }
}

export interface MbrRequest {
  readonly partitions: readonly { readonly startBytes: number; readonly sizeBytes: number }[]
  readonly diskSignature: number
}

/** Place and length of the records of an MBR. Unit: bytes. */
const MBR_RECORDS = { offsetBytes: 446, sizeBytes: 16 } as const

/** A master boot record with Linux partitions, four at most. Source: UEFI specification 2.10, section 5.2.1. */
export function mbr({ partitions, diskSignature }: MbrRequest): Uint8Array {
  const record = Buffer.alloc(SECTOR_BYTES)
  record.writeUInt32LE(diskSignature, 440)
  partitions.forEach(({ startBytes, sizeBytes }, index) => {
    const start = startBytes / SECTOR_BYTES
    const count = sizeBytes / SECTOR_BYTES
    if (start + count - 1 > MAX_SECTOR) {
      throw new BuildError(
        'E_CONFIG',
        `image of ${String(sizeBytes)} bytes: a partition table holds at most 2 TiB`,
        { hint: 'lower IMG_SIZE or ROOT_FREE_SPACE' },
      )
    }
    const at = MBR_RECORDS.offsetBytes + index * MBR_RECORDS.sizeBytes
    chsAddress(start).copy(record, at + 1)
    record.writeUInt8(TYPE_LINUX, at + 4)
    chsAddress(start + count - 1).copy(record, at + 5)
    record.writeUInt32LE(start, at + 8)
    record.writeUInt32LE(count, at + 12)
  })
  record.writeUInt16LE(0xaa55, 510)
  return record
}

/** Cylinder, head and sector on the usual 255 × 63 geometry; the marker for `beyond` from cylinder 1024 on. */
function chsAddress(sector: number): Buffer {
  const cylinder = Math.floor(sector / (255 * 63))
  if (cylinder > 1023) return Buffer.from([0xfe, 0xff, 0xff])
  const head = Math.floor(sector / 63) % 255
  return Buffer.from([head, ((cylinder >> 2) & 0xc0) | ((sector % 63) + 1), cylinder & 0xff])
}

/**
 * The info block that tells the NVDIMM driver where the data begins, with its checksum.
 *
 * Source: struct nd_pfn_sb in linux/drivers/nvdimm/pfn.h, version 0.2; nd_fletcher64 in core.c.
 */
export function pfnInfoBlock(): Uint8Array {
  const block = Buffer.alloc(4096)
  block.write('NVDIMM_PFN_INFO\0', 0, 'latin1')
  block.writeUInt16LE(0, 52)
  block.writeUInt16LE(2, 54)
  block.writeBigUInt64LE(BigInt(DAX_BYTES), 56)
  const modeRam = 1
  block.writeUInt32LE(modeRam, 72)
  const alignBytes = 2 * MIB
  block.writeUInt32LE(alignBytes, 84)
  block.writeBigUInt64LE(fletcher64(block), 4088)
  return block
}

/** Checksum of a block whose checksum field is zero. */
function fletcher64(block: Buffer): bigint {
  let low = 0n
  let high = 0n
  for (let offset = 0; offset < block.length; offset += 4) {
    low = (low + BigInt(block.readUInt32LE(offset))) & 0xffffffffn
    high += low
  }
  return ((high & 0xffffffffn) << 32n) | low
}

/** Round up to a multiple. */
export function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple
}
