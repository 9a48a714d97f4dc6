// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { parse } from 'yaml'

import type { Suite } from '../scripts/apt-index.ts'
import { PROJECT_ROOT } from '../scripts/paths.ts'

/** One pinned tarball of kernel.org. */
export interface PinnedVersion {
  readonly version: string
  readonly sha256: string
  /** Where the digest was read. */
  readonly origin: string
}

export interface Versions {
  readonly configVersion: number
  readonly debian: {
    readonly mirror: string
    readonly keyring: string
    readonly release: string
    readonly suites: readonly Suite[]
  }
  readonly kernelOrg: {
    readonly mirror: string
    readonly keyring: string
    readonly versions: readonly PinnedVersion[]
  }
}

/** What kernel/versions.yaml says; its paths are relative to the project. */
export function readVersions(): Versions {
  return parse(readFileSync(join(PROJECT_ROOT, 'kernel', 'versions.yaml'), 'utf8')) as Versions
}

/** `6.1.192` and `6.1-rc3` as numbers, most significant first. */
export function versionNumbers(version: string): number[] {
  return (version.match(/^\d+(\.\d+)*/)?.[0] ?? '0').split('.').map(Number)
}

/** Negative when `a` is older than `b`, by as many numbers as `b` has. */
export function compareVersions(a: string, b: string): number {
  const left = versionNumbers(a)
  for (const [index, number] of versionNumbers(b).entries()) {
    const difference = (left[index] ?? 0) - number
    if (difference !== 0) return difference
  }
  return 0
}

/** `6.1` of `6.1.192`: the series that patches are kept for. */
export function seriesOf(version: string): string {
  return versionNumbers(version).slice(0, 2).join('.')
}
