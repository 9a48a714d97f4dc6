// SPDX-License-Identifier: Apache-2.0
import { constants, copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

import { fieldOf } from '../../scripts/apt-lists.ts'
import { sha256 } from '../../scripts/digest.ts'
import { BuildError } from '../../scripts/errors.ts'
import { inParallel, lockedFiles } from '../../scripts/package-lock/locked-file.ts'
import type { LockPlaces } from '../../scripts/package-lock/locked-file.ts'
import type { LockedPackage } from '../../scripts/package-lock/package-lock.ts'
import { capture } from '../../scripts/run.ts'

/** Packages whose names are asked of dpkg-deb at once. */
const READERS = 4

/** Where a private archive is, in the folder that a bootstrap works in. */
export const REPOSITORY = 'repository'

/** One-line source for the private archive in the workplace of a bootstrap. */
export function repositoryLine(workplace: string, suite: string, components: readonly string[]): string {
  return `deb [trusted=yes] copy:${workplace}/${REPOSITORY} ${suite} ${String(components[0])}`
}

/**
 * Make an archive of exactly these packages, each verified.
 *
 * It is not signed: the digests of the lock stand for that, and apt checks them once more.
 *
 * @param folder empty folder that gets it
 */
export async function makeRepository(
  packages: readonly LockedPackage[],
  of: {
    readonly folder: string
    readonly suite: string
    readonly component: string
    readonly debianArch: string
    readonly epochSeconds: number
  },
  places: LockPlaces,
): Promise<void> {
  const files = await lockedFiles(
    packages.map((item) => ({ ...item, title: `${item.name} ${item.version}` })),
    places,
  )
  const pool = join(of.folder, 'pool')
  mkdirSync(pool, { recursive: true })
  const rows = await inParallel([...packages.entries()], READERS, async ([number, item]) => {
    const file = files[number] ?? ''
    const name = `${item.sha256}.deb`
    copyFileSync(file, join(pool, name), constants.COPYFILE_FICLONE)
    const control = await capture(['dpkg-deb', '--field', file])
    checkControl(item, control, places)
    return paragraph(item, control, `pool/${name}`)
  })
  const dist = join(of.folder, 'dists', of.suite)
  const list = `${of.component}/binary-${of.debianArch}/Packages`
  mkdirSync(join(dist, of.component, `binary-${of.debianArch}`), { recursive: true })
  const content = rows.join('\n')
  writeFileSync(join(dist, list), content)
  const release = [
    `Suite: ${of.suite}`,
    `Codename: ${of.suite}`,
    `Date: ${new Date(of.epochSeconds * 1000).toUTCString()}`,
    `Architectures: ${of.debianArch}`,
    `Components: ${of.component}`,
    'SHA256:',
    ` ${sha256(content)} ${String(Buffer.byteLength(content))} ${list}`,
  ]
  writeFileSync(join(dist, 'Release'), `${release.join('\n')}\n`)
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
function paragraph(item: LockedPackage, control: string, filename: string): string {
  const own = control.replace(/^(Priority|Section):.*\n?/gm, '').trim()
  return [
    own,
    ...(item.priority === undefined ? [] : [`Priority: ${item.priority}`]),
    ...(item.section === undefined ? [] : [`Section: ${item.section}`]),
    `Filename: ${filename}`,
    `Size: ${String(item.sizeBytes)}`,
    `SHA256: ${item.sha256}`,
    '',
  ].join('\n')
}
