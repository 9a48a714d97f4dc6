// SPDX-License-Identifier: Apache-2.0
import type { TreeEntry } from '../../scripts/tree.ts'
import { inputError } from './nodes.ts'
import { FORMAT, INODE } from './xfs-file.ts'

/** Flags of a name's prefix. Source: XFS Algorithms & Data Structures, "Attribute Forks" */
const PREFIXES = [
  { prefix: 'user.', flags: 0 },
  { prefix: 'trusted.', flags: 0x02 },
  { prefix: 'security.', flags: 0x04 },
] as const

/** Names that access control lists have on disk. Source: the same */
const LISTS: Readonly<Record<string, string>> = {
  'system.posix_acl_access': 'SGI_ACL_FILE',
  'system.posix_acl_default': 'SGI_ACL_DEFAULT',
}

const ROOT_FLAG = 0x02

/** Length of an access control list's head and of each entry in a system call. Source: linux/posix_acl_xattr.h */
const CALL = { headBytes: 4, entryBytes: 8 } as const

/** Places in an inode. Unit: bytes. Source: the same, "Inode Core" */
const FORK_OFFSET_AT = 82
const FORK_FORMAT_AT = 83

/**
 * The attributes of an inode, as they are kept in it; empty without any.
 *
 * @throws BuildError E_INPUT when one cannot be stored so
 */
export function encodeAttributes({ path, xattrs }: TreeEntry): Buffer {
  if (xattrs === undefined || xattrs.size === 0) return Buffer.alloc(0)
  const entries = [...xattrs].map(([fullName, value]) => {
    const list = LISTS[fullName]
    const known = PREFIXES.find(({ prefix }) => fullName.startsWith(prefix))
    const name = Buffer.from(list ?? fullName.slice(known?.prefix.length))
    const stored = list === undefined ? value : listOf(value)
    if ((list === undefined && known === undefined) || name.length > 255 || stored.length > 255)
      throw inputError(path, `extended attribute ${fullName} cannot be stored in the inode of an XFS`)
    const flags = list === undefined ? (known?.flags ?? 0) : ROOT_FLAG
    return Buffer.concat([Buffer.from([name.length, stored.length, flags]), name, stored])
  })
  const body = Buffer.concat(entries)
  const head = Buffer.alloc(4)
  head.writeUInt16BE(head.length + body.length, 0)
  head.writeUInt8(entries.length, 2)
  return Buffer.concat([head, body])
}

/** A list as XFS has it: a count, then tag, id and rights of each. Source: linux/fs/xfs/xfs_format.h, struct xfs_acl */
function listOf(value: Uint8Array): Buffer {
  const call = Buffer.from(value.buffer, value.byteOffset, value.length)
  const count = Math.floor((call.length - CALL.headBytes) / CALL.entryBytes)
  const list = Buffer.alloc(4 + count * 12)
  list.writeUInt32BE(count, 0)
  for (let index = 0; index < count; index++) {
    const from = CALL.headBytes + index * CALL.entryBytes
    const to = 4 + index * 12
    list.writeUInt32BE(call.readUInt16LE(from), to)
    list.writeUInt32BE(call.readUInt32LE(from + 4), to + 4)
    list.writeUInt16BE(call.readUInt16LE(from + 2), to + 8)
  }
  return list
}

/**
 * Put attributes at the end of an inode.
 *
 * @throws BuildError E_INPUT when the content leaves no room for them
 */
export function putAttributes(inode: Buffer, attributes: Buffer, usedBytes: number, path: string): void {
  if (attributes.length === 0) return
  const room = inode.length - INODE.content
  // The kernel wants those of a device directly behind its number.
  const isDevice = inode[INODE.format] === FORMAT.device
  const offset = isDevice ? 8 : (room - attributes.length) & ~7
  if (offset < usedBytes || offset + attributes.length > room)
    throw inputError(path, 'has more extended attributes than fit into the inode of an XFS')
  inode.fill(0, INODE.content + offset)
  attributes.copy(inode, INODE.content + offset)
  inode.writeUInt8(offset / 8, FORK_OFFSET_AT)
  inode.writeUInt8(FORMAT.local, FORK_FORMAT_AT)
}
