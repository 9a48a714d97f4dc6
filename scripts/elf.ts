// SPDX-License-Identifier: Apache-2.0
import { closeSync, openSync, readSync } from 'node:fs'

import { ARCHES, ARCH_NAMES } from './arch.ts'
import type { ArchName } from './arch.ts'

/** Offsets in an ELF header. Unit: bytes. Source: elf(5). */
const EI_CLASS = 4
const EI_DATA = 5
const E_MACHINE = 18
const HEADER_BYTES = 20

/** The architecture a program file is for; `other` for an ELF file we have no name for, undefined when it is no ELF file. */
export function elfArch(file: string): ArchName | 'other' | undefined {
  const header = Buffer.alloc(HEADER_BYTES)
  const descriptor = openSync(file, 'r')
  try {
    if (readSync(descriptor, header, 0, HEADER_BYTES, 0) < HEADER_BYTES) return undefined
  } finally {
    closeSync(descriptor)
  }
  return elfArchOf(header)
}

/** As elfArch, from the first 20 bytes of a file. */
export function elfArchOf(header: Uint8Array): ArchName | 'other' | undefined {
  const bytes = Buffer.from(header)
  if (bytes.length < HEADER_BYTES || bytes.toString('latin1', 0, 4) !== '\x7fELF') return undefined
  const bits = bytes[EI_CLASS] === 2 ? 64 : 32
  const littleEndian = bytes[EI_DATA] === 1
  const machine = littleEndian ? bytes.readUInt16LE(E_MACHINE) : bytes.readUInt16BE(E_MACHINE)
  const name = ARCH_NAMES.find((arch) => {
    const { elf } = ARCHES[arch]
    return elf.machine === machine && elf.bits === bits && elf.littleEndian === littleEndian
  })
  return name ?? 'other'
}
