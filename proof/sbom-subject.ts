// SPDX-License-Identifier: Apache-2.0
import { sha256 } from '../scripts/digest.ts'
import type { Json } from '../scripts/digest.ts'
import type { Inventory } from './inventory.ts'

/** What an SBOM is about. */
export interface Subject {
  readonly kind: 'rootfs' | 'image' | 'initrd' | 'kernel'
  /** File name of the output. */
  readonly name: string
  /** Of the output; of a rootfs, the digest of its listing. */
  readonly sha256: string
  /** Version of this project. */
  readonly osbuilder: string
  /** Unit: seconds since 1970. */
  readonly epochSeconds: number
  readonly properties: Readonly<Record<string, string>>
}

export interface Description {
  readonly subject: Subject
  readonly inventory: Inventory
  /** The signed indexes that named the packages, as the manifest of the rootfs has them. */
  readonly indexes: Json
}

/**
 * A UUID that follows from what is described: the same bytes have the same, on whatever machine.
 *
 * It is of version 8, which leaves its bits to the application. Source: RFC 9562, section 5.8
 */
export function uuidOf({ kind, name, sha256: digest, osbuilder }: Subject): string {
  const hex = sha256(JSON.stringify([kind, name, digest, osbuilder]))
  const variant = ((parseInt(hex.slice(16, 17), 16) & 0x3) | 0x8).toString(16)
  const parts = [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `${variant}${hex.slice(17, 20)}`]
  return [...parts, hex.slice(20, 32)].join('-')
}

/** `2026-11-21T05:54:41Z` */
export function timeOf(epochSeconds: number): string {
  return new Date(epochSeconds * 1000).toISOString().replace('.000Z', 'Z')
}

/** `Name <address>` in its parts. */
export function nameAndAddress(text: string): { readonly name: string; readonly address: string } {
  const [, name = '', address = ''] = /^\s*(.*?)\s*<([^>]*)>\s*$/.exec(text) ?? []
  return name === '' ? { name: text.trim(), address } : { name: name.replace(/^"(.*)"$/, '$1'), address }
}

/** The name under which files that belong to nothing are listed. */
export const UNACCOUNTED = 'belongs to nothing'
