// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { BuildError } from '../../../scripts/errors.ts'
import { note, warn } from '../../../scripts/log.ts'
import { PRIVATE_NAMESPACE } from '../../../scripts/namespace.ts'
import { quote } from '../../../scripts/command-error.ts'
import { requireTools, run } from '../../../scripts/run.ts'
import { discard, temporaryFor } from '../../../scripts/temporary.ts'
import { unfit } from '../locked-guest.ts'
import type { BootstrapOptions, LockedRequest } from '../plan.ts'
import { keepAndUnpack, packArgv } from '../tree-tar.ts'
import { foreignTools, mountDevices, mountWorkplace, workplaceOutside } from '../workplace.ts'
import { RPM_HOME, dnfArgv, rpmMacros } from './config.ts'
import type { DnfSource } from './config.ts'
import { explainDnf, failedScripts, missingPackages } from './explain.ts'
import { checkRpmIndexes, makeRepositories, privateSource } from './locked.ts'
import { explainInstall, prepareScratch, readIndexes, refreshIndexes, withDnfCache } from './metadata.ts'
import type { IndexedRepository } from './metadata.ts'

/** A base tree of rpm packages, with all that was decided of it. */
export interface DnfTree {
  readonly source: DnfSource
  readonly packages: readonly string[]
  readonly indexes: readonly IndexedRepository[]
  /** Path of rpm's database in the guest. */
  readonly database: string
  readonly keepDocs: boolean
  readonly epochSeconds: number
  readonly cacheDir: string
  /** What of a lock it is made of: then no mirror is asked. */
  readonly locked?: LockedRequest
}

/**
 * Names, beside the tree, of what dnf is given: at its end it writes a log and a note below the root of the
 * guest too, at the same paths, which must be known to be left out.
 */
const SCRATCH = 'osbuilder-scratch'
const CACHE = 'osbuilder-cache'

/** Files of the package manager that hold the time of the build or belong to its run. */
const LEFT_OUT = ['dev/*', 'proc/*', 'sys/*', 'var/cache/dnf', 'var/lib/dnf']
const LEFT_OF_DATABASE = ['.rpm.lock', 'rpmdb.sqlite-shm', 'rpmdb.sqlite-wal']

/**
 * Install the packages into a new tree and store it as a tar, unpacking a copy on the way, as apt's
 * bootstrap does.
 *
 * dnf and rpm take SOURCE_DATE_EPOCH for the time of the installation, so that the same index gives the
 * same bytes, rpm's database included.
 *
 * @throws BuildError E_SIGNATURE for what is not signed or changed, E_INPUT for packages that are not there
 *   or do not fit together, E_NETWORK when the mirror cannot be reached
 */
export async function bootstrapDnf(
  tree: DnfTree,
  targetDir: string,
  tarFile: string,
  options: BootstrapOptions,
): Promise<void> {
  const { cacheDir, epochSeconds } = tree
  requireTools(['dnf', 'rpm', 'setpriv', 'unshare', 'tar', 'bash', ...foreignTools(tree.source.arch)])
  if (tree.source.repositories !== 'host')
    for (const { id, url, signs } of tree.source.repositories) note(`${id}: ${url}, signed: ${signs}`)
  const scratch = temporaryFor(`${tarFile}.scratch`)
  const workplace = workplaceOutside([targetDir, tarFile, cacheDir, ...tree.source.keys])
  const source =
    tree.locked === undefined ? tree.source : privateSource(tree.source, join(workplace, SCRATCH))
  try {
    prepareScratch(scratch, source)
    for (const folder of [RPM_HOME, 'disk']) mkdirSync(join(scratch, folder))
    writeFileSync(join(scratch, RPM_HOME, '.rpmmacros'), rpmMacros(tree.database, tree.keepDocs))
    await withPackages(tree, scratch, async (folder) => {
      const places = { scratch: join(workplace, SCRATCH), cache: join(workplace, CACHE) }
      const dnf = dnfArgv(source, places, join(workplace, 'tree'), ['install', ...tree.packages])
      try {
        await run(
          [
            ...PRIVATE_NAMESPACE,
            ...['bash', '-euo', 'pipefail', '-c', script(tree, workplace)],
            ...['bash', targetDir, tarFile, workplace, scratch, folder, ...dnf],
          ],
          {
            ...{ logFile: options.logFile, verbose: options.verbose, cwd: '/' },
            env: { HOME: join(workplace, SCRATCH, RPM_HOME), SOURCE_DATE_EPOCH: String(epochSeconds) },
          },
        )
      } catch (error) {
        throw await explain(error, tree, folder, options.logFile)
      }
    })
    const failed = failedScripts(readFileSync(options.logFile, 'utf8'))
    if (failed.length > 0) warn(`scripts of packages failed: ${failed.join(', ')}; see ${options.logFile}`)
  } finally {
    discard(scratch)
  }
}

/** Do `work` with a folder for dnf's cache: the one with the indexes that were planned with, or an empty one for a lock. */
async function withPackages(
  tree: DnfTree,
  scratch: string,
  work: (folder: string) => Promise<void>,
): Promise<void> {
  if (tree.locked === undefined) {
    await withDnfCache(tree.source, tree.cacheDir, async (folder) => {
      await ensureIndexes(tree, folder)
      await work(folder)
    })
    return
  }
  await checkRpmIndexes(tree.source, tree.locked, tree.cacheDir)
  await makeRepositories(tree.locked, scratch)
  const folder = join(scratch, 'cache-of-lock')
  mkdirSync(folder)
  await work(folder)
}

/** $1 target, $2 tar file, $3 workplace, $4 scratch, $5 dnf's cache, then dnf. */
function script({ epochSeconds, database }: DnfTree, workplace: string): string {
  const leftOut = [
    ...LEFT_OUT,
    ...LEFT_OF_DATABASE.map((name) => `${database}/${name}`),
    ...[SCRATCH, CACHE].map((name) => `${workplace.slice(1)}/${name}`),
  ]
  return [
    mountWorkplace('"$3"', '"$4/disk"'),
    `cd "$3"; mkdir tree ${SCRATCH} ${CACHE}; mount --bind "$4" ${SCRATCH}; mount --bind "$5" ${CACHE}`,
    'cd tree; mkdir -m 0755 dev; mkdir -m 0555 proc sys',
    mountDevices('dev'),
    // A container's engine may forbid a new one.
    'mount -t proc proc proc 2>/dev/null || mount --rbind /proc proc',
    'cd /; "${@:6}" >&2',
    'umount --recursive --lazy "$3/tree/proc"',
    `${quote(packArgv(epochSeconds, leftOut))} --directory "$3/tree" . | ${keepAndUnpack('"$2"', '"$1"')}`,
  ].join('\n')
}

/** The indexes that were planned with must be those that dnf installs from. */
async function ensureIndexes({ source, indexes }: DnfTree, folder: string): Promise<void> {
  const digests = (rows: readonly IndexedRepository[]): string => rows.map((row) => row.sha256).join(' ')
  if (digests(readIndexes(source, folder)) === digests(indexes)) return
  if (digests(await refreshIndexes(source, folder)) === digests(indexes)) return
  throw new BuildError('E_NETWORK', 'the mirror has published another index since it was last asked', {
    hint: 'the same command with REFRESH=always    builds with the new one',
  })
}

async function explain(error: unknown, tree: DnfTree, folder: string, logFile: string): Promise<unknown> {
  if (tree.locked === undefined) return explainInstall(error, tree.source, folder, logFile)
  const log = readFileSync(logFile, 'utf8')
  const missing = missingPackages(log)
  const explained = explainDnf(error, tree.source, log)
  const isUnfit = explained instanceof BuildError && explained.code === 'E_INPUT'
  if (missing.length === 0 && !isUnfit) return explained
  const because = missing.length > 0 ? [`no package ${missing.join(', ')}`] : isUnfit ? explained.because : []
  return unfit(tree.locked.places, because, error)
}
