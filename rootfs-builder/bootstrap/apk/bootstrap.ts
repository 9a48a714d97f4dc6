// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, rmSync } from 'node:fs'
import { posix } from 'node:path'

import type { ArchName } from '../../../scripts/arch.ts'
import { DOWNLOADS, inParallel } from '../../../scripts/package-lock/locked-file.ts'
import { capture, requireTools, run } from '../../../scripts/run.ts'
import { discard, temporaryFor } from '../../../scripts/temporary.ts'
import { hostPath } from '../../guest.ts'
import type { Guest } from '../../guest.ts'
import { keepAndUnpack, packArgv } from '../tree-tar.ts'
import { writeDatabase } from './database.ts'
import type { ApkPackage } from './index.ts'
import { forgetTree, newInstallation, unpackPackage } from './install.ts'
import type { InstalledFile, Installation } from './install.ts'
import { readPackage, storePackage } from './package-cache.ts'
import type { LockedApk } from './package-cache.ts'
import type { PackageFacts, ScriptName } from './package.ts'
import { SCRIPTS, runScript } from './scripts.ts'
import { pemOf } from './signature.ts'
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
  readonly cacheDir: string
  /** What a lock says of them, which then is where they are from. */
  readonly locked?: ReadonlyMap<ApkPackage, LockedApk>
}

export interface Options {
  readonly logFile: string
  readonly verbose: boolean
}

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
    const tar = [...packArgv(tree.epochSeconds, ['dev/*']), '--directory', scratch, '.']
    const script = `"\${@:3}" | ${keepAndUnpack('"$2"', '"$1"')}`
    await run(['bash', '-euo', 'pipefail', '-c', script, 'bash', targetDir, tarFile, ...tar], options)
  } finally {
    discard(scratch)
  }
}

async function installAll(guest: Guest, tree: ApkTree, options: Options): Promise<void> {
  const installation = newInstallation(guest)
  const open: PackageFacts[] = []
  const script = async (facts: PackageFacts, moment: ScriptName, args: readonly string[]): Promise<void> => {
    const ran = await runScript(guest, facts, { moment, args, arch: tree.arch }, options)
    if (ran) forgetTree(installation)
  }
  const folders = await storeAll(tree)
  for (const item of tree.chosen) {
    const one = readPackage(item, folders.get(item) ?? '')
    await script(one.facts, 'pre-install', [item.version])
    unpackPackage(installation, one)
    await writeXattrs(installation.files.get(item.name) ?? [])
    await script(one.facts, 'post-install', [item.version])
    open.push(one.facts)
  }
  for (const facts of open) {
    const changed = changedFolders(installation, facts.triggers)
    if (changed.length > 0) await script(facts, 'trigger', changed)
  }
  rmSync(hostPath(guest, SCRIPTS), { recursive: true, force: true })
  await writeDatabase(installation, open, {
    world: tree.world,
    repositories: tree.repositories,
    arch: tree.apkArch,
    keys: new Map(pemOf(tree.keys)),
    epochSeconds: tree.epochSeconds,
  })
}

/**
 * Have all packages in the cache, several fetched and unpacked at once.
 *
 * Only when the last of them is verified does the first script run.
 */
async function storeAll({
  chosen,
  keys,
  cacheDir,
  locked,
}: ApkTree): Promise<ReadonlyMap<ApkPackage, string>> {
  const rows = await inParallel(
    chosen,
    DOWNLOADS,
    async (item) => [item, await storePackage(item, keys, cacheDir, locked?.get(item))] as const,
  )
  return new Map(rows)
}

/** Folders of installed packages that a trigger's patterns name, as its script is told them. */
function changedFolders({ files }: Installation, patterns: readonly string[]): string[] {
  if (patterns.length === 0) return []
  const folders = new Set<string>()
  for (const own of files.values()) {
    for (const { path, kind } of own) folders.add(kind === 'folder' ? `/${path}` : posix.dirname(`/${path}`))
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

/** The attributes of a package's files, by the tool that knows their kinds. */
export async function writeXattrs(files: readonly InstalledFile[]): Promise<void> {
  const paragraphs = files.flatMap(({ host, xattrs }) =>
    xattrs === undefined
      ? []
      : [
          // In a dump a backslash begins a byte as an octal number.
          `# file: ${host.replaceAll('\\', '\\134')}`,
          ...[...xattrs].map(([name, value]) => `${name}=0s${value.toString('base64')}`),
          '',
        ],
  )
  if (paragraphs.length === 0) return
  await capture(['setfattr', '--no-dereference', '--restore=-'], { input: `${paragraphs.join('\n')}\n` })
}
