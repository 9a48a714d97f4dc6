// SPDX-License-Identifier: Apache-2.0
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { posix } from 'node:path'

import { ARCHES } from '../../../scripts/arch.ts'
import type { ArchName } from '../../../scripts/arch.ts'
import { BuildError } from '../../../scripts/errors.ts'
import { PRIVATE_NAMESPACE } from '../../../scripts/namespace.ts'
import { capture, quote, requireTools, run } from '../../../scripts/run.ts'
import { hostArch } from '../../../scripts/settings.ts'
import { discard, temporaryFor } from '../../../scripts/temporary.ts'
import { UNPACK_FLAGS } from '../../base-tree.ts'
import { exists, hostPath, makeFolder } from '../../guest.ts'
import type { Guest } from '../../guest.ts'
import { writeDatabase } from './database.ts'
import type { ApkPackage } from './index.ts'
import { newInstallation, unpackPackage } from './install.ts'
import type { Installation } from './install.ts'
import { fetchPackage, openPackage } from './package.ts'
import type { OpenPackage, ScriptName } from './package.ts'
import type { Keys } from './signature.ts'

/** A base tree of apk's packages, with all that was decided of it. */
export interface ApkTree {
  /** Each after those it needs. */
  readonly chosen: readonly ApkPackage[]
  readonly keys: Keys
  readonly arch: ArchName
  /** The distro's name of it. */
  readonly apkArch: string
  readonly world: readonly string[]
  /** For the guest's own list. */
  readonly repositories: readonly string[]
  readonly epochSeconds: number
}

interface Options {
  readonly logFile: string
  readonly verbose: boolean
}

/** Files that are downloaded at once: a mirror serves few of them quicker. */
const DOWNLOADS = 8

/** Folder of scripts while they run, as apk has it. */
const SCRIPTS = 'lib/apk/exec'

/**
 * Install the packages into a new tree and store it as a tar, unpacking a copy on the way, as apt's
 * bootstrap does.
 *
 * @throws BuildError E_SIGNATURE for a package that is not the one of the index, E_COMMAND for a script that fails
 */
export async function bootstrapApk(
  tree: ApkTree,
  targetDir: string,
  tarFile: string,
  options: Options,
): Promise<void> {
  requireTools(['setpriv', 'unshare', 'chroot', 'tar', 'bash'])
  const scratch = temporaryFor(`${tarFile}.scratch`)
  mkdirSync(scratch)
  try {
    await installAll({ root: scratch }, tree, options)
    const tar = [
      ['tar', '--create', '--directory', scratch, '--sort=name', '--format=pax'],
      // Times of access and change are of this machine; what a script wrote has the tree's clock.
      ['--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime'],
      [`--mtime=@${String(tree.epochSeconds)}`, '--clamp-mtime', '--numeric-owner', '--xattrs'],
      ['--exclude=./dev/*', '.'],
    ].flat()
    const unpack = `{ tar --extract --directory "$1" ${quote(UNPACK_FLAGS)} && cat >/dev/null; }`
    const script = `"\${@:3}" | tee "$2" | ${unpack}`
    await run(['bash', '-euo', 'pipefail', '-c', script, 'bash', targetDir, tarFile, ...tar], options)
  } finally {
    discard(scratch)
  }
}

async function installAll(guest: Guest, tree: ApkTree, options: Options): Promise<void> {
  const installation = newInstallation(guest)
  const open: OpenPackage[] = []
  const next = openAll(tree)
  for (const item of tree.chosen) {
    // The ones to come are fetched, verified and inflated meanwhile.
    const one = await next(item)
    await runScript(guest, one, 'pre-install', [one.item.version], tree, options)
    unpackPackage(installation, one)
    await runScript(guest, one, 'post-install', [one.item.version], tree, options)
    open.push(one)
  }
  await writeXattrs(installation)
  for (const one of open) {
    const folders = changedFolders(installation, one.triggers)
    if (folders.length > 0) await runScript(guest, one, 'trigger', folders, tree, options)
  }
  rmSync(hostPath(guest, SCRIPTS), { recursive: true, force: true })
  const keys = [...tree.keys].map(
    ([name, key]) => [name, key.export({ type: 'spki', format: 'pem' }).toString()] as const,
  )
  await writeDatabase(installation, open, {
    world: tree.world,
    repositories: tree.repositories,
    arch: tree.apkArch,
    keys: new Map(keys),
    epochSeconds: tree.epochSeconds,
  })
}

/** Open packages ahead of those who ask for them, a few at once. */
function openAll(tree: ApkTree): (item: ApkPackage) => Promise<OpenPackage> {
  const opened = new Map<ApkPackage, Promise<OpenPackage>>()
  const waiting = [...tree.chosen]
  const begin = (): void => {
    const item = waiting.shift()
    if (item === undefined) return
    const work = fetchPackage(item).then((file) => openPackage(item, file, tree.keys))
    opened.set(item, work)
    work.catch(() => undefined).finally(begin)
  }
  for (let count = 0; count < DOWNLOADS; count += 1) begin()
  return async (item) => {
    while (!opened.has(item)) await Promise.race(opened.values()).catch(() => undefined)
    const one = await opened.get(item)
    opened.delete(item)
    if (one === undefined) throw new TypeError(`${item.name} was not opened`)
    return one
  }
}

/** Run a script of a package in the tree, if it has that one. */
async function runScript(
  guest: Guest,
  open: OpenPackage,
  moment: ScriptName,
  args: readonly string[],
  tree: ApkTree,
  options: Options,
): Promise<void> {
  const content = open.scripts.get(moment)
  if (content === undefined) return
  const name = `${open.item.name}-${open.item.version}.${moment}`
  makeFolder(guest, SCRIPTS)
  makeFolder(guest, 'dev')
  const file = hostPath(guest, posix.join(SCRIPTS, name))
  writeFileSync(file, content)
  chmodSync(file, 0o755)
  const interpreter = /^#!\s*(\S+)/.exec(content.subarray(0, 200).toString('latin1'))?.[1] ?? '/bin/sh'
  // Before its interpreter is there a script cannot run, in apk either; what it would do is not needed then.
  if (!exists(guest, interpreter)) return
  const inTree =
    'mount --rbind /dev "$1/dev"; exec chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "${@:2}"'
  const busybox = 'mount --rbind /dev "$1/dev"; exec chroot "$1" "${@:2}"'
  try {
    await run(
      [
        ...PRIVATE_NAMESPACE,
        [
          'bash',
          '-euo',
          'pipefail',
          '-c',
          exists(guest, 'usr/bin/env') ? inTree : busybox,
          'bash',
          guest.root,
        ],
        [`/${SCRIPTS}/${name}`, ...args],
      ].flat(),
      { ...options, cwd: '/', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } },
    )
  } catch (error) {
    if (!(error instanceof BuildError) || error.code !== 'E_COMMAND') throw error
    const isForeign = tree.arch !== hostArch()
    throw new BuildError(isForeign ? 'E_CONFIG' : 'E_COMMAND', `${name}: the script of the package failed`, {
      because: error.because,
      hint: isForeign
        ? `sudo make ARCH=${tree.arch} setup    lets this host run programs of ${ARCHES[tree.arch].qemu}`
        : `see ${options.logFile}`,
      cause: error,
    })
  }
}

/** Folders of installed packages that a trigger's patterns name, as its script is told them. */
function changedFolders({ files }: Installation, patterns: readonly string[]): string[] {
  if (patterns.length === 0) return []
  const folders = new Set<string>()
  for (const own of files.values()) {
    for (const { path, entry } of own) {
      folders.add(entry.header.type === 'directory' ? `/${path}` : posix.dirname(`/${path}`))
    }
  }
  return [...folders]
    .filter((folder) => patterns.some((pattern) => globToRegExp(pattern).test(folder)))
    .sort()
}

/** Patterns as fnmatch(3) takes them: `*` and `?` stop at a slash. */
function globToRegExp(pattern: string): RegExp {
  const source = pattern
    .replace(/[.+^${}()|\\]/g, '\\$&')
    .replaceAll('*', '[^/]*')
    .replaceAll('?', '[^/]')
  return new RegExp(`^${source}$`)
}

/** All extended attributes at once, by the tool that knows their kinds. */
async function writeXattrs({ guest, xattrs }: Installation): Promise<void> {
  if (xattrs.size === 0) return
  const dump = [...xattrs].map(([path, own]) => {
    const lines = [...own].map(
      ([name, value]) => `${name}=0s${Buffer.from(value, 'latin1').toString('base64')}`,
    )
    return [`# file: ${path}`, ...lines, ''].join('\n')
  })
  await capture(['setfattr', '--no-dereference', '--restore=-'], {
    cwd: guest.root,
    input: `${dump.join('\n')}\n`,
  })
}
