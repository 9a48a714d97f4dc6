// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { sha256File } from '../../scripts/digest.ts'
import { compareBytes, readTree } from '../../scripts/tree.ts'
import type { TreeEntry } from '../../scripts/tree.ts'
import { withXattrs } from '../../scripts/xattrs.ts'

/** What may differ of a path that both trees have. */
const PROPERTIES = [
  'type',
  'mode',
  'owner',
  'device',
  'target',
  'links',
  'attributes',
  'content',
  'time',
] as const

type Property = (typeof PROPERTIES)[number]

/** How two trees differ in one path. */
export type Kind = 'only ours' | 'only theirs' | Property

/** A folder with a tree in it, and what is in it by path. */
export interface Tree {
  readonly root: string
  readonly entries: ReadonlyMap<string, Readonly<Record<Property, string>>>
}

export interface Difference {
  readonly path: string
  readonly kind: Kind
  /** The values of both sides, for people. */
  readonly values: string
}

/** A difference that is meant. */
export interface Allowed {
  readonly path: RegExp
  readonly kinds: readonly Kind[]
  readonly why: string
  /** What of the path is nevertheless the same in both trees. */
  readonly same?: (root: string, path: string, owner: string) => unknown
}

/** Read a tree whole: every property and every content. */
export async function readWhole(root: string): Promise<Tree> {
  const entries = await withXattrs(root, readTree(root))
  const namesOf = new Map<string, string[]>()
  for (const { path, linkGroup } of entries) {
    if (linkGroup !== undefined) namesOf.set(linkGroup, [...(namesOf.get(linkGroup) ?? []), path])
  }
  return { root, entries: new Map(entries.map((entry) => [entry.path, propertiesOf(entry, namesOf)])) }
}

function propertiesOf(
  entry: TreeEntry,
  namesOf: ReadonlyMap<string, readonly string[]>,
): Readonly<Record<Property, string>> {
  const { type, mode, uid, gid, rdevMajor, rdevMinor, linkTarget, linkGroup, xattrs, source } = entry
  return {
    type,
    mode: (mode & 0o7777).toString(8),
    owner: `${String(uid)}:${String(gid)}`,
    device: `${String(rdevMajor)}:${String(rdevMinor)}`,
    target: linkTarget ?? '',
    links: linkGroup === undefined ? '' : (namesOf.get(linkGroup) ?? []).join(' '),
    attributes: [...(xattrs ?? [])]
      .map(([name, value]) => `${name}=${Buffer.from(value).toString('hex')}`)
      .join(' '),
    content: typeof source === 'string' ? sha256File(source) : '',
    time: String(entry.mtimeSeconds),
  }
}

/** All that differs between two trees, by path. */
export function compareTrees(ours: Tree, theirs: Tree): Difference[] {
  const paths = [...new Set([...ours.entries.keys(), ...theirs.entries.keys()])].sort(compareBytes)
  return paths.flatMap((path): Difference[] => {
    const mine = ours.entries.get(path)
    const other = theirs.entries.get(path)
    if (mine === undefined) return [{ path, kind: 'only theirs', values: other?.type ?? '' }]
    if (other === undefined) return [{ path, kind: 'only ours', values: mine.type }]
    // What follows from another type is not told.
    const kinds = mine.type === other.type ? PROPERTIES : (['type'] as const)
    return kinds
      .filter((kind) => mine[kind] !== other[kind])
      .map((kind) => ({ path, kind, values: `${mine[kind]} / ${other[kind]}` }))
  })
}

/**
 * Hold the differences of two trees against those that are allowed.
 *
 * Returns one line for each that no rule explains, and one for each rule that explains none: what was
 * allowed for a reason that is gone would hide the next fault.
 */
export function unexplained(ours: Tree, theirs: Tree, allowed: readonly Allowed[]): string[] {
  const used = new Set<Allowed>()
  const lines = compareTrees(ours, theirs).flatMap((difference) => {
    const { path, kind, values } = difference
    const rules = allowed.filter((rule) => rule.kinds.includes(kind) && rule.path.test(path))
    const rule = rules.find(({ same }) => same === undefined || isSame(same, path, ours, theirs))
    if (rule === undefined) return [`${path}: ${kind} ${values}`]
    used.add(rule)
    return []
  })
  const stale = allowed.filter((rule) => !used.has(rule))
  return [...lines, ...stale.map(({ path, why }) => `nothing differs any more in ${path.source}: ${why}`)]
}

function isSame(same: NonNullable<Allowed['same']>, path: string, ours: Tree, theirs: Tree): boolean {
  const [mine, other] = [ours, theirs].map(({ root, entries }) =>
    JSON.stringify(same(root, path, entries.get(path)?.owner ?? '')),
  )
  return mine === other
}

/** Names of a numeric `uid:gid` by the tree's own accounts. */
export function ownerNames(root: string, owner: string): string {
  const [uid = '', gid = ''] = owner.split(':')
  return `${nameOf(root, 'etc/passwd', uid)}:${nameOf(root, 'etc/group', gid)}`
}

function nameOf(root: string, file: string, id: string): string {
  const line = linesOf(root, file).find((row) => row.split(':')[2] === id)
  return line?.split(':')[0] ?? id
}

/** Lines of a file of accounts without ids, in the order of the names. Source: passwd(5), group(5), shadow(5). */
export function accounts(root: string, path: string): string[] {
  const isPasswd = path.startsWith('etc/passwd')
  const isGroup = path.startsWith('etc/group')
  return linesOf(root, path)
    .map((line) => {
      const fields = line.split(':')
      if (isPasswd) fields.splice(2, 2, ...ownerNames(root, fields.slice(2, 4).join(':')).split(':'))
      if (isGroup) fields.splice(2, 1)
      return fields.join(':')
    })
    .sort()
}

/** Paragraphs of a file of the package manager, in the order of their text. */
export function paragraphs(root: string, path: string): string[] {
  return readFileSync(join(root, path), 'utf8').split('\n\n').sort()
}

/** Lines of a text file, without the empty ones. */
export function linesOf(root: string, path: string): string[] {
  return readFileSync(join(root, path), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
}
