// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { basename, join, relative } from 'node:path'

import { sha256 } from '../scripts/digest.ts'
import { BuildError } from '../scripts/errors.ts'
import { PROJECT_ROOT } from '../scripts/paths.ts'
import { requireTools, run } from '../scripts/run.ts'
import { compareBytes } from '../scripts/tree.ts'
import { seriesOf } from './versions.ts'

export interface Patch {
  readonly file: string
  /** Path below its folder of patches, for messages and the manifest. */
  readonly name: string
  readonly sha256: string
}

/**
 * Patches for a version, in the order they are applied: ours before the user's, those of the series
 * before those of each variant, and in a folder by name.
 *
 * @param userFolder KERNEL_PATCHES, or the empty string
 */
export function findPatches(version: string, variants: readonly string[], userFolder: string): Patch[] {
  const series = seriesOf(version)
  const roots = [join(PROJECT_ROOT, 'kernel', 'patches'), ...(userFolder === '' ? [] : [userFolder])]
  return roots.flatMap((root) =>
    [series, ...variants.map((variant) => join(series, variant))].flatMap((folder) =>
      patchesIn(root, folder),
    ),
  )
}

function patchesIn(root: string, folder: string): Patch[] {
  const path = join(root, folder)
  if (!existsSync(path)) return []
  return readdirSync(path)
    .filter((name) => name.endsWith('.patch'))
    .sort(compareBytes)
    .map((name) => {
      const file = join(path, name)
      return { file, name: relative(root, file), sha256: sha256(readFileSync(file)) }
    })
}

/**
 * Apply patches to a fresh tree.
 *
 * @throws BuildError E_INPUT naming the patch that does not apply, and where
 */
export async function applyPatches(patches: readonly Patch[], tree: string, logFile: string): Promise<void> {
  if (patches.length > 0) requireTools(['patch'])
  for (const { file, name } of patches) {
    try {
      // Without fuzz: a patch that only nearly fits was made for other sources.
      await run(
        [
          'patch',
          '--strip=1',
          '--forward',
          '--batch',
          '--fuzz=0',
          '--no-backup-if-mismatch',
          `--input=${file}`,
        ],
        { cwd: tree, logFile },
      )
    } catch (error) {
      if (!(error instanceof BuildError) || error.code !== 'E_COMMAND') throw error
      throw new BuildError('E_INPUT', `${name}: the patch does not apply to ${seriesFile(tree)}`, {
        because: error.because.filter((line) => !line.startsWith('command:')),
        hint: `mend or remove ${file}`,
        cause: error,
      })
    }
  }
}

function seriesFile(tree: string): string {
  return `Linux ${treeVersion(tree)}`
}

/** Version that a tree's Makefile gives, such as `6.1.192`. */
export function treeVersion(tree: string): string {
  const text = readFileSync(join(tree, 'Makefile'), 'utf8')
  const field = (name: string): string => new RegExp(`^${name} *= *(\\S*)`, 'm').exec(text)?.[1] ?? ''
  return `${field('VERSION')}.${field('PATCHLEVEL')}.${field('SUBLEVEL') || '0'}${field('EXTRAVERSION')}`
}

/** Empty the name that git and make look for, so that nothing around the tree changes its version. */
export function sealVersion(tree: string): void {
  writeFileSync(join(tree, '.scmversion'), '')
}

/** `0001-fix.patch, 0002-more.patch` */
export function patchNames(patches: readonly Patch[]): string {
  return patches.map(({ file }) => basename(file)).join(', ')
}
