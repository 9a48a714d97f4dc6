// SPDX-License-Identifier: Apache-2.0
import type { TreeEntry } from './tree.ts'

const NONE = { uid: 0, gid: 0, sizeBytes: 0, rdevMajor: 0, rdevMinor: 0 } as const

/** Character devices that a guest finds before anything is mounted. Source: linux, Documentation/admin-guide/devices.txt */
const DEVICES = [
  ['console', 5, 1, 0o600],
  ['full', 1, 7, 0o666],
  ['null', 1, 3, 0o666],
  ['ptmx', 5, 2, 0o666],
  ['random', 1, 8, 0o666],
  ['tty', 5, 0, 0o666],
  ['urandom', 1, 9, 0o666],
  ['zero', 1, 5, 0o666],
] as const

/** A symlink that is no host file. */
export function linkEntry(path: string, linkTarget: string, epochSeconds: number): TreeEntry {
  return { ...NONE, path, type: 'symlink', mode: 0o120777, linkTarget, mtimeSeconds: epochSeconds }
}

/** A file whose content is given. */
export function fileEntry(
  path: string,
  source: Uint8Array,
  epochSeconds: number,
  mode: number = 0o644,
): TreeEntry {
  return {
    ...NONE,
    path,
    type: 'file',
    mode: 0o100000 | mode,
    source,
    sizeBytes: source.length,
    mtimeSeconds: epochSeconds,
  }
}

/**
 * What every packed guest has and a folder cannot always hold: device nodes, which need root to make,
 * and the empty machine-id that systemd mounts its own over. What the tree has itself stays.
 */
export function commonAdditions(tree: readonly TreeEntry[], epochSeconds: number): TreeEntry[] {
  const present = new Set(tree.map(({ path }) => path))
  const additions: TreeEntry[] = DEVICES.map(([name, rdevMajor, rdevMinor, mode]) => ({
    ...NONE,
    path: `dev/${name}`,
    type: 'character-device',
    mode: 0o020000 | mode,
    rdevMajor,
    rdevMinor,
    mtimeSeconds: epochSeconds,
  }))
  if (!present.has('dev')) {
    additions.push({ ...NONE, path: 'dev', type: 'directory', mode: 0o040755, mtimeSeconds: epochSeconds })
  }
  if (present.has('etc')) additions.push(fileEntry('etc/machine-id', Buffer.alloc(0), epochSeconds))
  return additions.filter(({ path }) => !present.has(path))
}
