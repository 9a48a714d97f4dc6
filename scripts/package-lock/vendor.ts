// SPDX-License-Identifier: Apache-2.0
import { constants, copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'

import { sha256File } from '../digest.ts'
import { BuildError } from '../errors.ts'
import { gitTitle, packCommit } from '../git-commit.ts'
import { withLock } from '../lock.ts'
import { DOWNLOADS, inParallel, lockedFile } from './locked-file.ts'
import type { LockPlaces } from './locked-file.ts'
import { bytes, note, report, seconds } from '../log.ts'
import { openLock } from './package-lock.ts'
import type { Lock, LockedFile, LockedIndex, OpenLock } from './package-lock.ts'
import { readSettings } from '../settings.ts'
import type { Settings } from '../settings.ts'
import { runStep } from '../step.ts'
import { discard, temporaryFor } from '../temporary.ts'
import { blobPath, isLayout, namedBlob, writeLayout } from './vendor-layout.ts'
import type { VendoredFile } from './vendor-layout.ts'
import { openWorkspace, removeLeftovers } from '../workspace.ts'
import type { Workspace } from '../workspace.ts'

const USAGE = `
Gather every file that LOCK_FILE names in VENDOR_DIR, from which OFFLINE=yes builds.

  vendor.js

  -h  show this help

Every setting comes from the environment; "make help" lists them.
`

await runStep({ name: 'vendor', usage: USAGE, needsOwners: false, main })

/** Files to gather, with the mirror that may stand in for theirs. */
interface Wanted extends LockedFile {
  readonly title: string
  readonly mirror?: LockPlaces['mirror']
}

async function main(): Promise<void> {
  const startMs = Date.now()
  const settings = readSettings({}, [
    ({ OFFLINE }) => (OFFLINE ? ['OFFLINE=yes: make vendor downloads; type OFFLINE=no'] : []),
  ])
  const open = openLock(settings)
  if (open === undefined) {
    throw new BuildError('E_CONFIG', `LOCK_FILE=${settings.LOCK_FILE}: there is no lock to gather files of`, {
      hint: 'make lock    writes it',
    })
  }
  const folder = settings.VENDOR_DIR
  refuseForeign(folder)
  const workspace = openWorkspace(settings)
  await withLock(workspace, folder, 'exclusive', async () => {
    removeLeftovers(workspace)
    mkdirSync(join(folder, 'blobs', 'sha256'), { recursive: true })
    const gather = (file: Wanted): Promise<VendoredFile> => gatherFile(file, { open, folder, workspace })
    const packages = await inParallel(packagesOf(open.lock, settings), DOWNLOADS, gather)
    const { found, missing } = await gatherIndexes(indexesOf(open.lock, settings), gather)
    const commits = await gatherCommits(open.lock, folder, workspace)
    const files = [...found, ...packages, ...commits]
    writeLayout(folder, files, missing)
    const digests = new Set(files.map(({ sha256 }) => sha256))
    const size = [...digests].reduce((sum, digest) => sum + statSync(blobPath(folder, digest)).size, 0)
    const count = `${String(digests.size)} files`
    report('VENDOR', folder, count, bytes(size), seconds(Date.now() - startMs))
  })
}

function refuseForeign(folder: string): void {
  if (!existsSync(folder) || isLayout(folder)) return
  // What a killed run left has no index yet.
  if (statSync(folder).isDirectory() && readdirSync(folder).every((name) => name === 'blobs')) return
  throw new BuildError('E_CONFIG', `VENDOR_DIR=${folder}: is not a folder that make vendor made`, {
    hint: 'name an empty folder, or one that is not there yet',
  })
}

function packagesOf(lock: Lock, settings: Settings): Wanted[] {
  return [
    ...lock.guests.flatMap((guest) => {
      const mirror = mirrorFor(settings, guest.distro, guest.mirror)
      const prefix = `${guest.distro}/${guest.release}/${guest.arch}`
      return guest.packages.map((item) => ({ ...item, title: `${prefix}/${fileName(item.url)}`, ...mirror }))
    }),
    ...lock.kernels.flatMap(({ file }) =>
      file === undefined ? [] : [{ ...file, title: fileName(file.url) }],
    ),
  ]
}

function fileName(url: string): string {
  return decodeURIComponent(basename(new URL(url).pathname))
}

interface WantedIndex {
  readonly index: LockedIndex
  /** The index, then the lists it names. */
  readonly files: readonly Wanted[]
}

function indexesOf(lock: Lock, settings: Settings): WantedIndex[] {
  const files = (index: LockedIndex, prefix: string, mirror: ReturnType<typeof mirrorFor>): WantedIndex => ({
    index,
    files: [index, ...(index.lists ?? [])].map(({ url, sizeBytes, sha256 }) => ({
      ...{ url, sizeBytes, sha256, title: `${prefix}/${new URL(url).pathname.slice(1)}` },
      ...mirror,
    })),
  })
  return [
    ...lock.guests.flatMap((guest) => {
      const prefix = `${guest.distro}/${guest.release}/${guest.arch}`
      const mirror = mirrorFor(settings, guest.distro, guest.mirror)
      return guest.indexes.map((index) => files(index, prefix, mirror))
    }),
    ...lock.kernels.flatMap(({ indexes }) => indexes.map((index) => files(index, 'kernel', {}))),
  ]
}

/** REPO_URL is of the distro that is asked for. */
function mirrorFor(settings: Settings, distro: string, locked: string): Pick<Wanted, 'mirror'> {
  if (settings.REPO_URL === '' || settings.DISTRO !== distro) return {}
  return { mirror: { locked, asked: settings.REPO_URL } }
}

interface Places {
  readonly open: OpenLock
  readonly folder: string
  readonly workspace: Workspace
}

async function gatherFile(
  { title, url, sizeBytes, sha256, mirror }: Wanted,
  { open, folder, workspace }: Places,
): Promise<VendoredFile> {
  const blob = blobPath(folder, sha256)
  if (!existsSync(blob) || sha256File(blob) !== sha256) {
    const places = { lockFile: open.file, cacheDir: workspace.cacheDir, vendorDir: '', isOffline: false }
    const file = await lockedFile(
      { title, url, sizeBytes, sha256 },
      { ...places, ...(mirror === undefined ? {} : { mirror }) },
    )
    putBlob(file, blob)
  }
  return { title, sha256 }
}

function putBlob(file: string, blob: string): void {
  const temporary = temporaryFor(blob)
  try {
    copyFileSync(file, temporary, constants.COPYFILE_FICLONE)
    renameSync(temporary, blob)
  } finally {
    discard(temporary)
  }
}

/**
 * Gather the signed indexes; they prove the digests of the lock a second time.
 *
 * A mirror has only its newest one. What was locked on another machine a while ago may be gone, which is
 * told, and then offline builds go by the lock alone.
 */
async function gatherIndexes(
  indexes: readonly WantedIndex[],
  gather: (file: Wanted) => Promise<VendoredFile>,
): Promise<{ readonly found: readonly VendoredFile[]; readonly missing: readonly string[] }> {
  const found: VendoredFile[] = []
  const missing: string[] = []
  for (const { index, files } of indexes) {
    try {
      found.push(...(await inParallel(files, DOWNLOADS, gather)))
    } catch (error) {
      if (!(error instanceof BuildError) || !['E_NETWORK', 'E_DIGEST'].includes(error.code)) throw error
      missing.push(index.sha256)
      note(`index ${index.name} is not there any more: VENDOR_DIR goes by the digests of the lock alone`)
    }
  }
  return { found, missing }
}

async function gatherCommits(lock: Lock, folder: string, workspace: Workspace): Promise<VendoredFile[]> {
  const wanted = [
    ...lock.agents.map(({ repo, commit }) => ({ repo, commit, withHistory: true })),
    ...lock.kernels.flatMap(({ git }) => (git === undefined ? [] : [{ ...git, withHistory: false }])),
  ]
  const files: VendoredFile[] = []
  for (const one of wanted) {
    const title = gitTitle(one)
    const known = vendored(folder, title)
    if (known !== undefined) {
      files.push({ title, sha256: basename(known) })
      continue
    }
    report('VENDOR', `${one.repo} ${one.commit.slice(0, 12)}`, 'fetching')
    const temporary = temporaryFor(join(workspace.cacheDir, `vendor-${one.commit}`))
    try {
      await packCommit(one, temporary, join(workspace.logDir, 'vendor.log'))
      const sha256 = sha256File(temporary)
      putBlob(temporary, blobPath(folder, sha256))
      files.push({ title, sha256 })
    } finally {
      discard(temporary)
    }
  }
  return files
}

/** A blob that was gathered before; what was changed since is gathered again. */
function vendored(folder: string, title: string): string | undefined {
  try {
    return namedBlob(folder, title)
  } catch (error) {
    if (error instanceof BuildError) return undefined
    throw error
  }
}
