// SPDX-License-Identifier: Apache-2.0
import { readFileSync, readdirSync } from 'node:fs'
import { join, posix } from 'node:path'

import { BuildError } from '../scripts/errors.ts'
import type { EntryName } from '../scripts/remote-cache.ts'
import { capture } from '../scripts/run.ts'
import { PATHS_TAR, ROWS_FILE } from './delta.ts'

/** A member of an archive as tar lists it: its own letter for the type, its path, and what a link names. */
interface Member {
  readonly letter: string
  readonly path: string
  readonly target: string
}

/** Type, mode, owner, size or device, date, time, then quoted names. Source: tar(1), --list --verbose */
const LINE =
  /^([-dlhcbp])\S+ +\S+ +\S+ +\S+ +\S+ "((?:[^"\\]|\\.)*)"(?: (?:->|link to) "((?:[^"\\]|\\.)*)")?$/

/**
 * Check what came from another machine, before it is an entry of the cache: a tree is unpacked as root, over
 * links that are there already. tar itself lists the archives, so that it finds in them what we have seen.
 *
 * @throws BuildError E_INPUT when unpacking could write anywhere but into the tree
 */
export async function checkPulled({ stage }: EntryName, folder: string): Promise<void> {
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.tar'))) {
    const members = await listMembers(join(folder, file))
    checkMembers(members, file)
    if (stage === 'provisioned' && file === PATHS_TAR) checkRows(members, join(folder, ROWS_FILE))
  }
}

async function listMembers(archive: string): Promise<Member[]> {
  const said = await capture(
    ['tar', '--list', '--verbose', '--numeric-owner', '--quoting-style=c', '--file', archive],
    // A date has one form then, and what is not ASCII is quoted.
    { env: { LC_ALL: 'C', TZ: 'UTC' } },
  )
  return said
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [, letter, path, target = ''] = LINE.exec(line) ?? []
      if (letter === undefined || path === undefined) throw unsound(`tar lists ${line.slice(0, 120)}`)
      return { letter, path: unquote(path), target: unquote(target) }
    })
}

/** Undo the quoting of C. Names come as bytes, which are UTF-8. */
function unquote(text: string): string {
  if (!text.includes('\\')) return text
  const letters: Readonly<Record<string, string>> = {
    a: '\x07',
    b: '\b',
    f: '\f',
    n: '\n',
    r: '\r',
    t: '\t',
    v: '\v',
  }
  const bytes = text.replace(/\\([0-7]{3}|.)/g, (_, code: string) =>
    /^[0-7]{3}$/.test(code) ? String.fromCharCode(parseInt(code, 8)) : (letters[code] ?? code),
  )
  return Buffer.from(bytes, 'latin1').toString('utf8')
}

/** Nothing is there twice, below something that is no folder, or another name of what is not in the archive. */
function checkMembers(members: readonly Member[], file: string): void {
  const seen = new Map<string, string>()
  for (const { letter, path, target } of members) {
    const plain = plainPath(path, file)
    if (seen.has(plain)) throw unsound(`${file}: ${path} is there twice`)
    if ('cb'.includes(letter) && !plain.startsWith('dev/')) throw unsound(`${file}: ${path} is a device`)
    if (letter === 'h' && !'-h'.includes(seen.get(plainPath(target, file)) ?? 'absent')) {
      throw unsound(`${file}: ${path} is a name of ${target}, which is no file before it`)
    }
    seen.set(plain, letter)
  }
  for (const path of seen.keys()) {
    for (let parent = posix.dirname(path); parent !== '.'; parent = posix.dirname(parent)) {
      if ((seen.get(parent) ?? 'd') !== 'd')
        throw unsound(`${file}: ${path} is below ${parent}, which is no folder`)
    }
  }
}

/** `./a/b/` as `a/b`; `.` for the root. */
function plainPath(path: string, file: string): string {
  const parts = path.replace(/\/$/, '').split('/')
  const isPlain = parts[0] === '.' && parts.slice(1).every((part) => !['', '.', '..'].includes(part))
  if (!isPlain) throw unsound(`${file}: ${JSON.stringify(path)} is no path below ./`)
  return parts.slice(1).join('/') || '.'
}

/** The rows of a delta are what its archive has: what is no row would be looked for in the tree. */
function checkRows(members: readonly Member[], file: string): void {
  const delta: unknown = JSON.parse(readFileSync(file, 'utf8'))
  const { rows, clamped } = (delta ?? {}) as Record<string, unknown>
  const named = new Map<string, string>()
  for (const row of [...rowsOf(rows), ...rowsOf(clamped)]) {
    const { path, was, is } = row as Record<string, unknown>
    const areKinds = [was, is].every((kind) => ['absent', 'directory', 'other'].includes(String(kind)))
    if (typeof path !== 'string' || path.includes('\0') || !areKinds)
      throw unsound(`${ROWS_FILE}: a row is none`)
  }
  for (const row of rowsOf(rows)) {
    const { path, is } = row as { readonly path: string; readonly is: string }
    if (is !== 'absent') named.set(path === '' ? '.' : path, is)
  }
  for (const { letter, path } of members) {
    const plain = plainPath(path, PATHS_TAR)
    const kind = letter === 'd' ? 'directory' : 'other'
    if (named.get(plain) !== kind) throw unsound(`${PATHS_TAR}: ${path} is not what ${ROWS_FILE} says`)
    named.delete(plain)
  }
  const [absent] = named.keys()
  if (absent !== undefined) throw unsound(`${PATHS_TAR}: lacks ${absent}`)
}

function rowsOf(value: unknown): readonly object[] {
  if (!Array.isArray(value) || !value.every((row) => typeof row === 'object' && row !== null)) {
    throw unsound(`${ROWS_FILE}: its rows are no list`)
  }
  return value as object[]
}

function unsound(why: string): BuildError {
  return new BuildError('E_INPUT', 'the entry is not sound', { because: [why] })
}
