// SPDX-License-Identifier: Apache-2.0
import { existsSync, lstatSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { Test } from 'tap'

import { debian } from '../../../rootfs-builder/debian/distro.ts'
import type { ProvisionContext } from '../../../rootfs-builder/provision/context.ts'
import { parseSettings } from '../../../scripts/settings.ts'
import type { RawSettings } from '../../../scripts/settings.ts'

const RELEASE = { name: 'bookworm', version: '12' }
const SOURCES = ['deb http://mirror bookworm main']

/** A guest made from `tree`, and what provisioning is told of it: a Debian guest unless `base` is undefined. */
export function contextOf(
  t: Test,
  tree: Parameters<Test['testdir']>[0] = {},
  settings: RawSettings = {},
  more: Partial<ProvisionContext> = {},
): ProvisionContext {
  const scratchDir = mkdtempSync(join(tmpdir(), 'osbuilder-provision-'))
  t.teardown(() => {
    rmSync(scratchDir, { recursive: true, force: true })
  })
  return {
    guest: { root: t.testdir(tree) },
    settings: parseSettings(settings),
    base: { distro: debian, release: RELEASE, sources: SOURCES, packages: ['init', 'chrony', 'vim'] },
    arch: 'x86_64',
    agent: { kind: 'present' },
    version: '1.2.3',
    epochSeconds: 1_700_000_000,
    scratchDir,
    logFile: join(scratchDir, 'log'),
    ...more,
  }
}

/** The same for a rootfs of the user's, of which nothing is known. */
export function foreignContextOf(
  t: Test,
  tree: Parameters<Test['testdir']>[0],
  settings: RawSettings = {},
): ProvisionContext {
  const { base: _base, ...context } = contextOf(t, tree, settings)
  return context
}

/** Content of a file of the guest; undefined when it is not there. */
export function textOf({ guest }: ProvisionContext, path: string): string | undefined {
  const file = join(guest.root, path)
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined
}

/** Target of a link of the guest; undefined when there is no link. */
export function targetOf({ guest }: ProvisionContext, path: string): string | undefined {
  const file = join(guest.root, path)
  return lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink() === true
    ? readlinkSync(file)
    : undefined
}
