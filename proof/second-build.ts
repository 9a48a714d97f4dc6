// SPDX-License-Identifier: Apache-2.0
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  lchownSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'

import { PROJECT_ROOT, isFileOrFolder } from '../scripts/paths.ts'
import { capture, findTool, run } from '../scripts/run.ts'
import { SETTINGS } from '../scripts/settings-table.ts'
import type { SettingName } from '../scripts/settings-table.ts'
import type { Settings } from '../scripts/settings.ts'
import type { Workspace } from '../scripts/workspace.ts'

/** First host id that stands for root in the second build, when the first is root's. Unit: uid. */
const OTHER_ID = 200000
const ID_COUNT = 65536

/** What both builds have: what came from the mirrors, each piece checked against its signed index. */
const DOWNLOADS = ['index', 'mirror', 'package', 'kernel']

/** Settings that say where things go, which the second build must not share. */
const PLACES: readonly SettingName[] = [
  'CACHE_DIR',
  'ROOTFS_DIR',
  'ROOTFS_BUILD_DEST',
  'IMAGES_BUILD_DEST',
  'DESTDIR',
  'INSTALL_DIR',
  'PREFIX',
  'SIGN_KEY',
  'VERIFY_KEY',
]

/** What the second build does otherwise than the first, in words. */
export interface Disturbances {
  readonly words: readonly string[]
  /** Added to every owner in its trees, as they are seen from here. */
  readonly idShift: number
  readonly workDir: string
  readonly homeDir: string
  readonly projectDir: string
}

/**
 * Prepare a folder for a second build, and tell how it differs.
 *
 * The project is installed into it; files that settings name are copied there, last name first, with
 * other times; downloads are copied from the first build's cache.
 */
export async function prepareSecond(
  folder: string,
  settings: Settings,
  workspace: Workspace,
  isRoot: boolean,
  logFile: string,
): Promise<{ readonly disturbances: Disturbances; readonly environment: Readonly<Record<string, string>> }> {
  const [projectDir, workDir, homeDir] = ['another place/project', 'another place/w', 'home']
    .map((name) => join(folder, name.replace(' ', '-')))
    .map(String) as [string, string, string]
  mkdirSync(homeDir, { recursive: true })
  mkdirSync(join(folder, 'cache'), { recursive: true })
  // What is installed already cannot install itself again, and is used where it is.
  const isCheckout = existsSync(join(PROJECT_ROOT, 'package-lock.json'))
  const install = [process.execPath, join(PROJECT_ROOT, 'build/scripts/install-scripts.js')]
  if (isCheckout) await run(['env', 'DESTDIR=', `INSTALL_DIR=${projectDir}`, ...install], { logFile })
  else mkdirSync(join(folder, 'another-place'))
  for (const name of DOWNLOADS) {
    const from = join(workspace.cacheDir, name)
    if (existsSync(from)) cpSync(from, join(folder, 'cache', name), { recursive: true })
  }
  const locale = await otherLocale()
  const environment: Record<string, string> = {
    ...copyInputs(join(folder, 'inputs'), settings),
    WORKDIR: workDir,
    CACHE_DIR: join(folder, 'cache'),
    HOME: homeDir,
    // Nepal's has an odd offset.
    TZ: 'Asia/Kathmandu',
    LANG: locale,
    LC_ALL: locale,
    REFRESH: 'never',
    REMOTE_CACHE: '',
    KERNEL_JOBS: '1',
  }
  for (const name of PLACES) environment[name] ??= ''
  // A local repository of the first build's owner is cloned as somebody else.
  writeFileSync(join(homeDir, '.gitconfig'), '[safe]\n\tdirectory = *\n')
  const hasTaskset = findTool('taskset') !== undefined
  if (isRoot) giveTo(folder, OTHER_ID)
  return {
    environment,
    disturbances: {
      workDir,
      homeDir,
      projectDir: isCheckout ? projectDir : PROJECT_ROOT,
      idShift: isRoot ? OTHER_ID : 0,
      words: [
        'a later clock, and other times of the source files',
        'time zone Asia/Kathmandu',
        locale === 'C' ? 'locale C (this host has no other)' : `locale ${locale}`,
        'umask 0077',
        isRoot ? `another uid (root of a user namespace at ${String(OTHER_ID)})` : '',
        'another working directory and HOME',
        'source files in another order on disk',
        hasTaskset ? 'one processor' : '',
      ].filter((word) => word !== ''),
    },
  }
}

/** A locale of this host that sorts and speaks otherwise; the plain C one where it has no other. */
async function otherLocale(): Promise<string> {
  const names = findTool('locale') === undefined ? '' : await capture(['locale', '--all-locales'])
  const usable = names.split('\n').filter((name) => name !== '' && !/^(C|POSIX)/.test(name))
  // In Turkish i and I are not each other's.
  return usable.find((name) => name.startsWith('tr_TR')) ?? usable[0] ?? 'C'
}

/** Copy every file and folder that a setting names; returns the settings that name the copies. */
function copyInputs(folder: string, settings: Settings): Record<string, string> {
  const copied: Record<string, string> = {}
  for (const [name, row] of Object.entries(SETTINGS) as [SettingName, { readonly type: string }][]) {
    const value = settings[name]
    if (row.type !== 'path' || PLACES.includes(name) || typeof value !== 'string' || name === 'WORKDIR')
      continue
    // The /dev/null of LOCK_FILE stays where it is.
    if (!isFileOrFolder(value)) continue
    const target = join(folder, name, basename(value))
    mkdirSync(join(folder, name), { recursive: true })
    copyBackwards(value, target)
    copied[name] = target
  }
  return copied
}

/** A day in spring, as good as any other: what a copy of a source file is dated. */
const COPY_TIME = 1_600_000_000

/** Copy a tree, last name first, so that inodes and folders are in another order; times become another. */
export function copyBackwards(from: string, to: string): void {
  const status = lstatSync(from)
  if (status.isSymbolicLink()) symlinkSync(readlinkSync(from), to)
  else if (statSync(from).isDirectory()) {
    mkdirSync(to)
    for (const name of readdirSync(from).sort().reverse()) copyBackwards(join(from, name), join(to, name))
    chmodSync(to, status.mode & 0o7777)
  } else {
    copyFileSync(from, to)
    chmodSync(to, status.mode & 0o7777)
  }
  lutimesSync(to, COPY_TIME, COPY_TIME)
}

function giveTo(path: string, id: number): void {
  const status = lstatSync(path)
  if (status.isSymbolicLink()) return lchownSync(path, id, id)
  if (status.isDirectory()) {
    for (const name of readdirSync(path)) giveTo(join(path, name), id)
  }
  chownSync(path, id, id)
  // A change of owner takes these bits away.
  if ((status.mode & 0o6000) !== 0) chmodSync(path, status.mode & 0o7777)
}

/**
 * Runs what follows as root of a user namespace whose ids are the given ones of this host. Only root
 * may choose them freely, by writing the maps itself.
 */
const AS_OTHER_ID = [
  'set -euo pipefail',
  'umask 0077',
  'rm -f "$1/go"; mkfifo -m 0666 "$1/go"',
  `setpriv --pdeathsig KILL -- unshare --user --keep-caps -- bash -c 'read -r _ <"$0"; exec setpriv --reuid 0 --regid 0 --clear-groups -- "$@"' "$1/go" "\${@:3}" &`,
  'child=$!',
  'until [ "$(readlink /proc/$child/ns/user)" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.05; done',
  `echo "0 $2 ${String(ID_COUNT)}" >/proc/$child/uid_map`,
  `echo "0 $2 ${String(ID_COUNT)}" >/proc/$child/gid_map`,
  'echo go >"$1/go"',
  'wait $child',
].join('\n')

/** The command that runs a step of the second build under all disturbances. */
export function secondArgv(
  folder: string,
  { projectDir, idShift }: Disturbances,
  environment: Readonly<Record<string, string>>,
  step: readonly string[],
): string[] {
  const [script = '', ...flags] = step
  const pinned = findTool('taskset') === undefined ? [] : ['taskset', '--cpu-list', '0']
  const command = [...pinned, process.execPath, join(projectDir, 'build', script), ...flags]
  const words = Object.entries(environment).map(([name, value]) => `${name}=${value}`)
  const disturbed =
    idShift === 0
      ? ['bash', '-c', 'umask 0077; exec "$@"', 'bash', ...command]
      : ['bash', '-c', AS_OTHER_ID, 'bash', folder, String(idShift), ...command]
  return ['env', ...words, ...disturbed]
}
