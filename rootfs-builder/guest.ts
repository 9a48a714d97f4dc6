// SPDX-License-Identifier: Apache-2.0
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join, posix, relative } from 'node:path'

import { BuildError } from '../scripts/errors.ts'
import { followPath } from '../scripts/guest-path.ts'
import { readTree } from '../scripts/tree.ts'

/** The host path of the guest's root. Only the functions of this module may write below it. */
export interface Guest {
  readonly root: string
  /** Is told the path below the root of every file and link that is written. */
  readonly onWrite?: (path: string) => void
}

/**
 * Host path of a guest path, its links followed as the guest would: an absolute link starts at the
 * guest's root and `..` stops there, so no path leads to the host's own files.
 *
 * @param followLast false to name a link itself and not what it points to
 * @throws BuildError E_INPUT on a loop of links
 */
export function hostPath(guest: Guest, path: string, followLast: boolean = true): string {
  const found = followPath(path, (place, isLast) =>
    isLast && !followLast ? undefined : linkAt(join(guest.root, place)),
  )
  if (found === undefined) throw new BuildError('E_INPUT', `${guest.root}: ${path} is a loop of links`)
  return join(guest.root, found)
}

function linkAt(path: string): string | undefined {
  const status = lstatSync(path, { throwIfNoEntry: false })
  return status?.isSymbolicLink() === true ? readlinkSync(path) : undefined
}

/** True when the path is there, links followed as the guest would. */
export function exists(guest: Guest, path: string): boolean {
  return lstatSync(hostPath(guest, path), { throwIfNoEntry: false }) !== undefined
}

/** True when the path is an executable file, links followed as the guest would. */
export function isExecutable(guest: Guest, path: string): boolean {
  const status = lstatSync(hostPath(guest, path), { throwIfNoEntry: false })
  return status?.isFile() === true && (status.mode & 0o111) !== 0
}

export function readText(guest: Guest, path: string): string {
  return readFileSync(hostPath(guest, path), 'utf8')
}

/** Names in a folder, in byte order; none when no folder is there. */
export function list(guest: Guest, path: string): string[] {
  const folder = hostPath(guest, path)
  const isFolder = lstatSync(folder, { throwIfNoEntry: false })?.isDirectory() === true
  return isFolder ? readdirSync(folder).sort() : []
}

/** Make a folder and those above it, all owned by root. An existing one keeps its mode. */
export function makeFolder(guest: Guest, path: string, mode: number = 0o755): void {
  const folder = hostPath(guest, path)
  if (existsSync(folder)) return
  mkdirSync(folder, { recursive: true, mode: 0o755 })
  chmodSync(folder, mode)
}

/** Write a whole file. A link or an old file of that name is replaced, never written through. */
export function writeText(
  guest: Guest,
  path: string,
  content: string | Uint8Array,
  mode: number = 0o644,
): void {
  const file = freshPath(guest, path)
  writeFileSync(file, content, { flag: 'wx', mode })
  chmodSync(file, mode)
}

/** Copy a file of the host into the guest. */
export function copyIn(guest: Guest, hostFile: string, path: string, mode: number): void {
  const file = freshPath(guest, path)
  copyFileSync(hostFile, file)
  chmodSync(file, mode)
}

/** Make a symlink; what has the name already is replaced. */
export function link(guest: Guest, target: string, path: string): void {
  symlinkSync(target, freshPath(guest, path))
}

/** Give a file another name, over what may have it. */
export function move(guest: Guest, from: string, to: string): void {
  renameSync(hostPath(guest, from, false), freshPath(guest, to))
}

/** Remove a file, a link, or a folder with all in it; nothing happens when it is not there. */
export function remove(guest: Guest, path: string): void {
  const victim = hostPath(guest, path, false)
  if (victim === guest.root) throw new TypeError('the root of a guest is not removed')
  rmSync(victim, { recursive: true, force: true })
}

/** Remove what is in a folder and keep the folder. */
export function empty(guest: Guest, path: string): void {
  for (const name of list(guest, path)) remove(guest, `${path}/${name}`)
}

/** A free name in an existing folder of the guest. */
function freshPath(guest: Guest, path: string): string {
  makeFolder(guest, posix.dirname(`/${path}`))
  const file = hostPath(guest, path, false)
  if (lstatSync(file, { throwIfNoEntry: false })?.isDirectory() === true) {
    throw new BuildError('E_INPUT', `${path}: a folder is where a file is to be written`)
  }
  rmSync(file, { force: true })
  guest.onWrite?.(relative(guest.root, file))
  return file
}

/**
 * Lay the files below `sourceDir` over the guest, with their modes and links, owned by root.
 *
 * A folder that is a link in the guest (`lib` → `usr/lib`) stays one, and its target gets the files.
 *
 * @param at guest folder that stands for `sourceDir`
 * @param keep tells by a path below `sourceDir` whether it is laid
 */
export function overlay(
  guest: Guest,
  sourceDir: string,
  at: string = '',
  keep: (path: string) => boolean = () => true,
): void {
  for (const entry of readTree(sourceDir)) {
    if (!keep(entry.path)) continue
    const path = posix.join(at, entry.path)
    if (entry.path === '') makeFolder(guest, at)
    else if (entry.type === 'directory') makeFolder(guest, path, entry.mode & 0o7777)
    else if (entry.type === 'symlink') link(guest, entry.linkTarget ?? '', path)
    else if (entry.type === 'file') copyIn(guest, join(sourceDir, entry.path), path, entry.mode & 0o7777)
    else throw new BuildError('E_INPUT', `${entry.path}: a ${entry.type} cannot be added to a rootfs`)
  }
}
