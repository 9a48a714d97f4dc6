// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { fieldOf } from '../../scripts/apt-lists.ts'
import { sha256, sha256File } from '../../scripts/digest.ts'
import { BuildError } from '../../scripts/errors.ts'
import { fetchFile } from '../../scripts/fetch-file.ts'
import { keepFile } from '../../scripts/kept-file.ts'
import { DOWNLOADS, inParallel, lockedFile } from '../../scripts/package-lock/locked-file.ts'
import type { LockPlaces } from '../../scripts/package-lock/locked-file.ts'
import type { LockedPackage } from '../../scripts/package-lock/package-lock.ts'
import { capture } from '../../scripts/run.ts'
import { OF_FILE, lockedPackage } from './apt-resolve.ts'
import type { ChosenPackage } from './apt-resolve.ts'
import { startPlainDebs } from './plain-deb.ts'

/** Where a private archive is, in the folder that a bootstrap works in. */
export const REPOSITORY = 'repository'

/** One-line source for the private archive in the workplace of a bootstrap. */
export function repositoryLine(workplace: string, suite: string, components: readonly string[]): string {
  return `deb [trusted=yes] copy:${workplace}/${REPOSITORY} ${suite} ${String(components[0])}`
}

/** A package for a private archive. */
export interface ArchivedPackage {
  /** Path of the package, which was verified. */
  readonly file: string
  /** What a list of packages says of it, one character per byte, but for its place, size and digest. */
  readonly paragraph: string
}

/**
 * Make an archive of exactly these packages, for one bootstrap: they are stored uncompressed.
 *
 * It is not signed: each package was verified before, and apt checks that it gets what was stored.
 *
 * @param have gets a package and what is known of it; several at once are asked for
 * @param of.folder empty folder that gets it
 */
export async function makeArchive<Item>(
  items: readonly Item[],
  have: (item: Item) => Promise<ArchivedPackage>,
  of: {
    readonly folder: string
    readonly suite: string
    readonly component: string
    readonly debianArch: string
    readonly epochSeconds: number
  },
): Promise<void> {
  const pool = join(of.folder, 'pool')
  mkdirSync(pool, { recursive: true })
  const debs = startPlainDebs()
  const rows = await inParallel([...items.entries()], DOWNLOADS, async ([number, item]) => {
    const { file, paragraph } = await have(item)
    const path = `pool/${String(number)}.deb`
    const plain = join(of.folder, path)
    await debs.store(file, plain)
    const isAbout = [`Size: ${String(statSync(plain).size)}`, `SHA256: ${sha256File(plain)}`]
    return [paragraph.trim(), `Filename: ${path}`, ...isAbout, ''].join('\n')
  }).finally(debs.end)
  const dist = join(of.folder, 'dists', of.suite)
  const list = `${of.component}/binary-${of.debianArch}/Packages`
  mkdirSync(dirname(join(dist, list)), { recursive: true })
  const content = Buffer.from(rows.join('\n'), 'latin1')
  writeFileSync(join(dist, list), content)
  const release = [
    `Suite: ${of.suite}`,
    `Codename: ${of.suite}`,
    `Date: ${new Date(of.epochSeconds * 1000).toUTCString()}`,
    `Architectures: ${of.debianArch}`,
    `Components: ${of.component}`,
    'SHA256:',
    ` ${sha256(content)} ${String(content.length)} ${list}`,
  ]
  writeFileSync(join(dist, 'Release'), `${release.join('\n')}\n`)
}

/** A package of a lock. */
export async function haveLocked(item: LockedPackage, places: LockPlaces): Promise<ArchivedPackage> {
  const file = await lockedFile({ ...item, title: `${item.name} ${item.version}` }, places)
  const control = await capture(['dpkg-deb', '--field', file])
  checkControl(item, control, places)
  return { file, paragraph: Buffer.from(lockedParagraph(item, control)).toString('latin1') }
}

/**
 * A package that apt chose from signed lists.
 *
 * @throws BuildError E_SIGNATURE when the mirror serves another file than those name, else as fetchFile
 */
export async function haveChosen(
  item: ChosenPackage,
  of: { readonly cacheDir: string },
): Promise<ArchivedPackage> {
  const { name, url, sha256: digest } = lockedPackage(item)
  const origin = `the signed index of ${item.index.suite}`
  const hint = 'try again later or use another mirror with REPO_URL'
  if (digest === '') {
    throw new BuildError('E_SIGNATURE', `${name}: ${origin} names no sha256 for it`, { hint })
  }
  try {
    const file = await keepFile(of.cacheDir, digest, (target) =>
      fetchFile({ url, target, digest, digestOrigin: origin, hint }),
    )
    return { file, paragraph: item.paragraph.replace(OF_FILE, '') }
  } catch (error) {
    if (!(error instanceof BuildError) || error.code !== 'E_DIGEST') throw error
    throw new BuildError('E_SIGNATURE', `${name}: the mirror served a package that is not the signed one`, {
      because: error.because,
      hint,
      cause: error,
    })
  }
}

/** A package must be the one that its row names, or the tree would have others than the lock tells. */
function checkControl(item: LockedPackage, control: string, { lockFile }: LockPlaces): void {
  const found = ['Package', 'Version', 'Architecture'].map((name) => fieldOf(control, name)).join(' ')
  const named = [item.name, item.version, item.arch].join(' ')
  if (found === named) return
  throw new BuildError('E_INPUT', `${basename(lockFile)}: ${named} is another package`, {
    because: [`the file with sha256 ${item.sha256} is ${found}`],
    hint: `git checkout -- ${basename(lockFile)}    or make lock-update`,
  })
}

/** A package in the archive's words: its own, but for what its first archive said in their place. */
function lockedParagraph(item: LockedPackage, control: string): string {
  return [
    control.replace(/^(Priority|Section):.*\n?/gm, '').trim(),
    ...(item.priority === undefined ? [] : [`Priority: ${item.priority}`]),
    ...(item.section === undefined ? [] : [`Section: ${item.section}`]),
  ].join('\n')
}
