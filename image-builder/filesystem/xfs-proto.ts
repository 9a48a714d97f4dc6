// SPDX-License-Identifier: Apache-2.0
import type { EntryType, TreeEntry } from '../../scripts/tree.ts'
import { inputError, nodesOf } from './nodes.ts'
import type { Child, Node } from './nodes.ts'

/** First letter of a mode. Source: mkfs.xfs(8), "protofile" */
const LETTERS: Readonly<Record<EntryType, string | undefined>> = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  'character-device': 'c',
  'block-device': 'b',
  fifo: 'p',
  socket: undefined,
}

/** A prototype, and what of it is not a host file of the rootfs. */
export interface Prototype {
  readonly text: Buffer
  /** Content that must be in a file of its own, or a host file to link to, by the path that the text has for it. */
  readonly files: ReadonlyMap<string, Uint8Array | string>
}

/** What ends a word of a prototype. Source: xfsprogs, mkfs/proto.c */
const SPACES: readonly number[] = [0x20, 0x09, 0x0a]
const HAS_SPACE = /[ \t\n]/

/** What begins a comment. */
const COLON = 0x3a

/**
 * A name that a prototype can have, in place of one it cannot: of the same length, and of the same hash,
 * by which XFS orders the names of a directory, so that only the name itself need be mended. One byte per
 * character.
 *
 * The hash takes each byte shifted by 7 bits against the next: the lowest bit of one falls on the highest
 * of the next, and to change both changes nothing. Source: linux/fs/xfs/libxfs/xfs_da_btree.c, xfs_da_hashname
 */
export function standInFor(name: string): string {
  const bytes = Buffer.from(name)
  for (let at = 0; at < bytes.length; at++) {
    if (!SPACES.includes(bytes[at] ?? 0) && !(at === 0 && bytes[at] === COLON)) continue
    const low = at + 1 < bytes.length ? at : at - 1
    if (low < 0) continue
    bytes[low] = (bytes[low] ?? 0) ^ 0x01
    bytes[low + 1] = (bytes[low + 1] ?? 0) ^ 0x80
  }
  return bytes.toString('latin1')
}

/**
 * The prototype that mkfs.xfs fills a filesystem by. Files of the rootfs are `rootfs/<path>`.
 *
 * It has words for no second names of a file, no times and no attributes: an empty file stands for each
 * second name, and all are mended in what mkfs.xfs wrote.
 *
 * Source: mkfs.xfs(8) of xfsprogs 6.1, option -p
 *
 * @throws BuildError E_INPUT when an entry has something that a prototype cannot say
 */
export function prototypeOf(entries: readonly TreeEntry[]): Prototype {
  const files = new Map<string, Uint8Array | string>()
  const lines = ['/dev/null', '0 0']
  const add = ({ name, node }: Child, path: string): void => {
    const { entry } = node
    checkEntry(name, entry)
    const prefix = name === '' ? '' : `${standInFor(name)} `
    if (path !== entry.path) {
      lines.push(`${prefix}---644 0 0 /dev/null`)
      return
    }
    lines.push(`${prefix}${fixedOf(entry)}${contentOf(node, files)}`)
    if (entry.type !== 'directory') return
    for (const child of node.children) add(child, path === '' ? child.name : `${path}/${child.name}`)
    lines.push('$')
  }
  const [root] = nodesOf(entries)
  if (root !== undefined) add({ name: '', node: root }, '')
  return { text: Buffer.from(`${lines.join('\n')}\n`, 'latin1'), files }
}

function fixedOf({ type, mode, uid, gid }: TreeEntry): string {
  // Its bits above these are set later, where all of them have room.
  const bits = (mode & 0o777).toString(8).padStart(3, '0')
  return `${LETTERS[type] ?? ''}--${bits} ${String(uid)} ${String(gid)}`
}

function contentOf({ entry, number }: Node, files: Map<string, Uint8Array | string>): string {
  switch (entry.type) {
    case 'file': {
      if (entry.sizeBytes === 0) return ' /dev/null'
      if (typeof entry.source === 'string' && !HAS_SPACE.test(entry.path))
        return ` rootfs/${bytewise(entry.path)}`
      files.set(`made-${String(number)}`, entry.source ?? new Uint8Array())
      return ` made-${String(number)}`
    }
    case 'symlink':
      return ` ${bytewise(entry.linkTarget ?? '')}`
    case 'character-device':
    case 'block-device':
      return ` ${String(entry.rdevMajor)} ${String(entry.rdevMinor)}`
    default:
      return ''
  }
}

function checkEntry(name: string, { path, type, linkTarget = '' }: TreeEntry): void {
  const refuse = (problem: string): never => {
    throw inputError(path, `${problem}; FS_TYPE=ext4, erofs and squashfs can`)
  }
  if (LETTERS[type] === undefined) refuse('is a socket, which mkfs.xfs cannot make')
  const standIn = standInFor(name)
  if (standIn === '$' || standIn.startsWith(':') || HAS_SPACE.test(standIn))
    refuse('mkfs.xfs cannot make a file of this name')
  if (HAS_SPACE.test(linkTarget) || linkTarget.startsWith(':'))
    refuse(`mkfs.xfs cannot make a link to ${linkTarget}`)
}

/** The text as mkfs.xfs reads it: one character per byte. */
function bytewise(text: string): string {
  return Buffer.from(text).toString('latin1')
}
