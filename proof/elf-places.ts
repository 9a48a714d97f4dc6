// SPDX-License-Identifier: Apache-2.0
import { firstDifference } from './explain.ts'

/** A section of an ELF file. */
interface Section {
  readonly name: string
  /** Where it is in memory. */
  readonly address: bigint
  readonly offset: number
  readonly sizeBytes: number
}

/** Section type of what takes no room in the file. Source: elf(5). */
const SHT_NOBITS = 8
/** Bytes of a 64-bit section header, and of the names in it. Source: elf(5), Elf64_Shdr. */
const HEADER_BYTES = 64

/** Sections of a 64-bit ELF file that are in the file, in its order; none when it is no such file. */
export function sectionsOf(file: Buffer): readonly Section[] {
  if (file.length < 64 || file.toString('latin1', 0, 4) !== '\x7fELF' || file[4] !== 2) return []
  const isLittle = file[5] === 1
  const u32 = (at: number): number => (isLittle ? file.readUInt32LE(at) : file.readUInt32BE(at))
  const u64 = (at: number): bigint => (isLittle ? file.readBigUInt64LE(at) : file.readBigUInt64BE(at))
  const u16 = (at: number): number => (isLittle ? file.readUInt16LE(at) : file.readUInt16BE(at))
  const [table, count, names] = [Number(u64(0x28)), u16(0x3c), u16(0x3e)]
  if (table + count * HEADER_BYTES > file.length || names >= count) return []
  const headerAt = (index: number): number => table + index * HEADER_BYTES
  const namesAt = Number(u64(headerAt(names) + 0x18))
  return Array.from({ length: count }, (_, index) => {
    const at = headerAt(index)
    const nameAt = namesAt + u32(at)
    return {
      type: u32(at + 4),
      name: file.toString('latin1', nameAt, Math.max(nameAt, file.indexOf(0, nameAt))),
      address: u64(at + 0x10),
      offset: Number(u64(at + 0x18)),
      sizeBytes: Number(u64(at + 0x20)),
    }
  })
    .filter(({ type }) => type !== SHT_NOBITS && type !== 0)
    .sort((a, b) => a.offset - b.offset)
}

/**
 * The place of a byte in words: `section .rodata, at linux_banner+0x40`.
 *
 * @param addresses text of the System.map that belongs to the file; `''` for none
 */
export function placeInElf(file: Buffer, offset: number, addresses: string): string {
  const section = sectionsOf(file).find((one) => offset >= one.offset && offset < one.offset + one.sizeBytes)
  if (section === undefined) return ''
  const named = `section ${section.name}`
  const address = section.address + BigInt(offset - section.offset)
  let nearest: { readonly address: bigint; readonly name: string } | undefined
  for (const line of addresses.split('\n')) {
    const [digits = '', , name = ''] = line.split(' ')
    if (name === '') continue
    const start = BigInt(`0x${digits}`)
    if (start >= section.address && start <= address && start >= (nearest?.address ?? 0n))
      nearest = { address: start, name }
  }
  if (section.address === 0n || nearest === undefined) return named
  return `${named}, at ${nearest.name}+0x${(address - nearest.address).toString(16)}`
}

/** A section that differs, with the offset in the first file of its first byte that does. */
export interface DifferingSection {
  readonly name: string
  readonly offset: number
}

/** Sections whose content differs, in the order of the first file; none where the files are no ELF files. */
export function differingSections(first: Buffer, second: Buffer): DifferingSection[] {
  const others = new Map(sectionsOf(second).map((one) => [one.name, one]))
  const content = (file: Buffer, { offset, sizeBytes }: Section): Buffer =>
    file.subarray(offset, offset + sizeBytes)
  return sectionsOf(first).flatMap((one) => {
    const other = others.get(one.name)
    if (other === undefined) return [{ name: one.name, offset: one.offset }]
    const [a, b] = [content(first, one), content(second, other)]
    return a.equals(b) ? [] : [{ name: one.name, offset: one.offset + firstDifference(a, b) }]
  })
}
