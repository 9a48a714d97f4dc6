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
}

export interface Piece {
  readonly offsetBytes: number
  readonly bytes: Uint8Array
}

export interface ImageLayout {
  readonly imageBytes: number
  readonly filesystemOffsetBytes: number
  readonly filesystemBytes: number
  /** Everything of the image that is not the filesystem. */
  readonly pieces: readonly Piece[]
}

/** Bytes of an image in front of its filesystem. */
export function overheadBytes(daxHeader: boolean): number {
  return PARTITION_START_BYTES + (daxHeader ? DAX_BYTES : 0)
}

/**
 * Lay out a disk image with one partition to its end.
 *
 * With the DAX header there are two partition tables for the one filesystem: a virtio-blk guest reads
 * the first, an NVDIMM guest skips 2 MiB and reads the second.
 * ```
 * 0 MBR 1 | 4 KiB info block | 2 MiB MBR 2 | 3 MiB filesystem … end
 * ```
 */
export function layoutImage({ imageBytes, daxHeader, diskSignature }: LayoutRequest): ImageLayout {
  const filesystemOffsetBytes = overheadBytes(daxHeader)
  const filesystemBytes = imageBytes - filesystemOffsetBytes
  const plain = { startBytes: PARTITION_START_BYTES, sizeBytes: filesystemBytes, diskSignature }
  const pieces = daxHeader
    ? [
        { offsetBytes: 0, bytes: mbr({ ...plain, startBytes: filesystemOffsetBytes }) },
        { offsetBytes: PFN_INFO_OFFSET_BYTES, bytes: pfnInfoBlock() },
        { offsetBytes: DAX_BYTES, bytes: mbr(plain) },
      ]
    : [{ offsetBytes: 0, bytes: mbr(plain) }]
  return { imageBytes, filesystemOffsetBytes, filesystemBytes, pieces }
}

interface PartitionRequest {
  readonly startBytes: number
  readonly sizeBytes: number
  readonly diskSignature: number
}

/** A master boot record with one Linux partition. Source: UEFI specification 2.10, section 5.2.1. */
export function mbr({ startBytes, sizeBytes, diskSignature }: PartitionRequest): Uint8Array {
  const start = startBytes / SECTOR_BYTES
  const count = sizeBytes / SECTOR_BYTES
  if (start + count - 1 > MAX_SECTOR) {
    throw new BuildError(
      'E_CONFIG',
      `image of ${String(sizeBytes)} bytes: a partition table holds at most 2 TiB`,
      {
        hint: 'lower IMG_SIZE or ROOT_FREE_SPACE',
      },
    )
  }
  const record = Buffer.alloc(SECTOR_BYTES)
  record.writeUInt32LE(diskSignature, 440)
  chsAddress(start).copy(record, 447)
  record.writeUInt8(TYPE_LINUX, 450)
  chsAddress(start + count - 1).copy(record, 451)
  record.writeUInt32LE(start, 454)
  record.writeUInt32LE(count, 458)
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
