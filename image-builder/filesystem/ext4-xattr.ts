// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../../scripts/errors.ts'
import { crc32c, crc32cOfUint32 } from './crc32c.ts'

/** Marks xattrs, both in an inode and in a block. Source: ext4/attributes.rst, `h_magic` */
const XATTR_MAGIC = 0xea020000

/** Fixed part of an entry, before its name. Unit: bytes. Source: ext4/attributes.rst */
const ENTRY_BYTES = 16

/** Header of a block of xattrs. Unit: bytes. Source: ext4/attributes.rst */
const BLOCK_HEADER_BYTES = 32

/** Header of the xattrs in an inode: the magic number alone. Unit: bytes. */
const INODE_HEADER_BYTES = 4

/** Four zero bytes end the list of entries. */
const TERMINATOR_BYTES = 4

/** Longest name after its prefix; the length is one byte. */
const MAX_NAME_BYTES = 255

/** Prefixes that are stored as a number. Source: ext4/attributes.rst, `e_name_index` */
const NAME_INDEXES = [
  { prefix: 'user.', index: 1 },
  { prefix: 'system.posix_acl_access', index: 2, isAcl: true },
  { prefix: 'system.posix_acl_default', index: 3, isAcl: true },
  { prefix: 'trusted.', index: 4 },
  { prefix: 'security.', index: 6 },
] as const

/** Xattrs of one inode as written to disk. */
export interface EncodedXattrs {
  /** What follows the inode's fixed fields. */
  readonly inInode?: Uint8Array
  /** A block of its own, without checksum: `sealXattrBlock` adds it once the block has a number. */
  readonly inBlock?: Uint8Array
}

/** Room for xattrs, and the file to name in an error. */
export interface XattrRequest {
  readonly path: string
  readonly inodeRoomBytes: number
  readonly blockSizeBytes: number
}

interface Attribute {
  readonly index: number
  readonly name: Buffer
  readonly value: Uint8Array
}

/**
 * Encode the xattrs of one inode: in the inode when all of them fit there, else all in one block.
 *
 * @throws BuildError E_INPUT when a name has a prefix ext4 does not store, or they are too many
 */
export function encodeXattrs(xattrs: ReadonlyMap<string, Uint8Array>, request: XattrRequest): EncodedXattrs {
  if (xattrs.size === 0) return {}
  const attributes = [...xattrs]
    .map(([name, value]) => attributeOf(name, value, request.path))
    .sort(compareAttributes)
  const neededBytes = attributes.reduce((sum, attribute) => sum + storedBytes(attribute), TERMINATOR_BYTES)
  if (neededBytes + INODE_HEADER_BYTES <= request.inodeRoomBytes) {
    return { inInode: encodeInInode(attributes, request.inodeRoomBytes) }
  }
  if (neededBytes + BLOCK_HEADER_BYTES <= request.blockSizeBytes) {
    return { inBlock: encodeInBlock(attributes, request.blockSizeBytes) }
  }
  throw new BuildError('E_INPUT', `${request.path}: too many extended attributes`, {
    because: [
      `they need ${String(neededBytes)} bytes`,
      `ext4 holds ${String(request.blockSizeBytes - BLOCK_HEADER_BYTES)} per file`,
    ],
    hint: `getfattr -d -m - ${request.path}    and remove some, or choose larger blocks`,
  })
}

function attributeOf(fullName: string, value: Uint8Array, path: string): Attribute {
  const known = NAME_INDEXES.find(({ prefix }) => fullName.startsWith(prefix))
  const name = Buffer.from(fullName.slice(known?.prefix.length))
  const isAcl = known !== undefined && 'isAcl' in known
  if (known === undefined || isAcl !== (name.length === 0) || name.length > MAX_NAME_BYTES) {
    throw new BuildError('E_INPUT', `${path}: extended attribute ${fullName} cannot be stored in ext4`, {
      because: [`stored are: ${NAME_INDEXES.map(({ prefix }) => prefix).join(' ')}`],
      hint: `setfattr -x ${fullName} ${path}`,
    })
  }
  return { index: known.index, name, value: isAcl ? diskAclOf(value, { path, fullName }) : value }
}

/** Order the kernel's search in a block relies on. Source: linux/fs/ext4/xattr.c, `xattr_find_entry` */
function compareAttributes(a: Attribute, b: Attribute): number {
  return a.index - b.index || a.name.length - b.name.length || Buffer.compare(a.name, b.name)
}

function padded(length: number): number {
  return (length + 3) & ~3
}

function storedBytes({ name, value }: Attribute): number {
  return padded(ENTRY_BYTES + name.length) + padded(value.length)
}

/** Version of an access control list in a system call. Source: linux/posix_acl_xattr.h */
const CALL_ACL_VERSION = 2

/** Version of an access control list on disk. Source: linux/fs/ext4/acl.h, EXT4_ACL_VERSION */
const DISK_ACL_VERSION = 1

/** Tags whose entry names a user or group: ACL_USER and ACL_GROUP. Source: linux/posix_acl.h */
const NAMED_TAGS: readonly number[] = [0x02, 0x08]

/** An access control list as ext4 stores it: ids only where a user or group is named. */
function diskAclOf(
  value: Uint8Array,
  { path, fullName }: { readonly path: string; readonly fullName: string },
): Uint8Array {
  const call = Buffer.from(value.buffer, value.byteOffset, value.length)
  if (call.length % 8 !== 4 || call.readUInt32LE(0) !== CALL_ACL_VERSION) {
    throw new BuildError('E_INPUT', `${path}: ${fullName} is not an access control list of version 2`, {
      hint: `getfacl ${path}`,
    })
  }
  const parts: Uint8Array[] = [Buffer.from([DISK_ACL_VERSION, 0, 0, 0])]
  for (let at = 4; at < call.length; at += 8) {
    const length = NAMED_TAGS.includes(call.readUInt16LE(at)) ? 8 : 4
    parts.push(call.subarray(at, at + length))
  }
  return Buffer.concat(parts)
}

function encodeInInode(attributes: readonly Attribute[], roomBytes: number): Uint8Array {
  const bytes = Buffer.alloc(roomBytes)
  bytes.writeUInt32LE(XATTR_MAGIC, 0)
  // Offsets of values count from the first entry, and the kernel leaves the hashes 0 here.
  placeAttributes(bytes.subarray(INODE_HEADER_BYTES), attributes, 0)
  return bytes
}

function encodeInBlock(attributes: readonly Attribute[], blockSizeBytes: number): Uint8Array {
  const bytes = Buffer.alloc(blockSizeBytes)
  bytes.writeUInt32LE(XATTR_MAGIC, 0)
  bytes.writeUInt32LE(1, 4) // h_refcount
  bytes.writeUInt32LE(1, 8) // h_blocks
  const entryOffsets = placeAttributes(bytes, attributes, BLOCK_HEADER_BYTES)
  let blockHash = 0
  entryOffsets.forEach((at, position) => {
    const { name, value } = attributes[position] ?? { name: Buffer.alloc(0), value: Buffer.alloc(0) }
    const hash = entryHash(name, value)
    bytes.writeUInt32LE(hash, at + 12)
    blockHash = ((blockHash << 16) ^ (blockHash >>> 16) ^ hash) >>> 0
  })
  bytes.writeUInt32LE(blockHash, 12)
  return bytes
}

/** Place entries from `firstEntry` upwards and values from the end downwards; gives each entry's offset. */
function placeAttributes(bytes: Buffer, attributes: readonly Attribute[], firstEntry: number): number[] {
  let entryOffset = firstEntry
  let valueOffset = bytes.length
  return attributes.map(({ index, name, value }) => {
    const at = entryOffset
    valueOffset -= padded(value.length)
    bytes[at] = name.length
    bytes[at + 1] = index
    bytes.writeUInt16LE(value.length === 0 ? 0 : valueOffset, at + 2)
    bytes.writeUInt32LE(value.length, at + 8)
    bytes.set(name, at + ENTRY_BYTES)
    bytes.set(value, valueOffset)
    entryOffset += padded(ENTRY_BYTES + name.length)
    return at
  })
}

/** Source: linux/fs/ext4/xattr.c, `ext4_xattr_hash_entry` */
function entryHash(name: Uint8Array, value: Uint8Array): number {
  let hash = 0
  for (const byte of name) hash = ((hash << 5) ^ (hash >>> 27) ^ byte) >>> 0
  const words = Buffer.alloc(padded(value.length))
  words.set(value)
  for (let at = 0; at < words.length; at += 4) {
    hash = ((hash << 16) ^ (hash >>> 16) ^ words.readUInt32LE(at)) >>> 0
  }
  return hash
}

/** Write the checksum of a block of xattrs, which covers the block's number. */
export function sealXattrBlock(bytes: Uint8Array, block: number, filesystemSeed: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const seed = crc32cOfUint32(crc32cOfUint32(filesystemSeed, block), 0)
  view.setUint32(16, crc32c(seed, bytes), true)
}
