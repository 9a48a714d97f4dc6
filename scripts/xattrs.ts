// SPDX-License-Identifier: Apache-2.0
import { relative } from 'node:path'

import { capture } from './run.ts'
import type { TreeEntry } from './tree.ts'

type Attributes = ReadonlyMap<string, Uint8Array>

/** The extended attributes in a tree, by path below its root, in one pass over it. */
export async function readXattrs(root: string): Promise<ReadonlyMap<string, Attributes>> {
  const dump = await capture(
    [
      ['getfattr', '--recursive', '--physical', '--no-dereference', '--absolute-names'],
      ['--dump', '--match=-', '--encoding=base64', root],
    ].flat(),
  )
  return new Map([...parseDump(dump)].map(([path, attributes]) => [relative(root, path), attributes]))
}

/**
 * The entries with the extended attributes of their host files.
 *
 * @param attributes those of the tree, when they were asked for earlier
 */
export async function withXattrs(
  root: string,
  entries: readonly TreeEntry[],
  attributes: Promise<ReadonlyMap<string, Attributes>> = readXattrs(root),
): Promise<TreeEntry[]> {
  const found = await attributes
  return entries.map((entry) => {
    const xattrs = found.get(entry.path)
    return xattrs === undefined ? entry : { ...entry, xattrs }
  })
}

/** Attributes by path, from the text that getfattr writes. Source: getfattr(1), setfattr --restore. */
export function parseDump(text: string): Map<string, Attributes> {
  const found = new Map<string, Attributes>()
  for (const paragraph of text.split(/\n\n+/)) {
    const [head = '', ...lines] = paragraph.split('\n')
    if (!head.startsWith('# file: ')) continue
    const attributes = lines.filter((line) => line !== '').map(parseLine)
    found.set(
      unescapeName(head.slice('# file: '.length)),
      new Map(attributes.sort(([a], [b]) => (a < b ? -1 : 1))),
    )
  }
  return found
}

function parseLine(line: string): [string, Uint8Array] {
  const [name = '', ...rest] = line.split('=')
  const value = rest.join('=')
  return [unescapeName(name), Buffer.from(value.startsWith('0s') ? value.slice(2) : '', 'base64')]
}

/** Undo `\134` and the like, which stand for single bytes. */
function unescapeName(text: string): string {
  if (!text.includes('\\')) return text
  const bytes = Buffer.from(text).toString('latin1')
  const plain = bytes.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)))
  return Buffer.from(plain, 'latin1').toString('utf8')
}
