// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

import type { ArchName } from '../scripts/arch.ts'
import { findEntry, makeEntry } from '../scripts/cache.ts'
import { fingerprint, sha256File } from '../scripts/digest.ts'
import { BuildError } from '../scripts/errors.ts'
import { gitTitle, unpackCommit } from '../scripts/git-commit.ts'
import { notVendored } from '../scripts/package-lock/locked-file.ts'
import { report } from '../scripts/log.ts'
import { offlineWithoutLock } from '../scripts/package-lock/package-lock.ts'
import { capture, run } from '../scripts/run.ts'
import type { Settings } from '../scripts/settings.ts'
import { withTemporary } from '../scripts/temporary.ts'
import { namedBlob } from '../scripts/package-lock/vendor-layout.ts'
import { bundledAgent } from './agent/build.ts'
import { lockedAgent } from './locked-agent.ts'
import type { AgentSource } from './provision/agent.ts'

export const AGENT_SETTINGS = [
  'AGENT_INIT',
  'AGENT_POLICY',
  'AGENT_REPO',
  'AGENT_SOURCE_BIN',
  'AGENT_SOURCE_DIR',
  'AGENT_TARBALL',
  'AGENT_VERSION',
  'DEBUG',
  'LIBC',
  'SECCOMP',
] as const

/** Problems of the agent settings, one line each. */
export function checkAgentSettings(settings: Settings): string[] {
  const given = (['AGENT_SOURCE_BIN', 'AGENT_TARBALL', 'AGENT_REPO'] as const).filter(
    (name) => settings[name] !== '',
  )
  const problems = given.length > 1 ? [`${given.join(' and ')}: give only one of them`] : []
  if (settings.AGENT_VERSION !== '' && settings.AGENT_REPO === '') {
    problems.push(
      `AGENT_VERSION=${settings.AGENT_VERSION}: needs AGENT_REPO, the repository it is a version of`,
    )
  }
  if (settings.AGENT_POLICY && settings.AGENT_POLICY_FILE === '') {
    problems.push('AGENT_POLICY=yes: needs AGENT_POLICY_FILE, the policy to install')
  }
  const files = [
    'AGENT_SOURCE_BIN',
    'AGENT_TARBALL',
    'AGENT_POLICY_FILE',
    'GUEST_HOOKS_TARBALL',
    'PAUSE_IMAGE_TARBALL',
    'COCO_GUEST_COMPONENTS_TARBALL',
  ] as const
  for (const name of files) {
    const file = settings[name]
    if (file !== '' && statSync(file, { throwIfNoEntry: false })?.isFile() !== true) {
      problems.push(`${name}=${file}: no such file`)
    }
  }
  for (const name of ['KERNEL_MODULES_DIR', 'ROOTFS_OVERLAY'] as const) {
    const folder = settings[name]
    if (folder !== '' && statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
      problems.push(`${name}=${folder}: no such folder`)
    }
  }
  return problems
}

/** Folder of an entry of the cache that the agent's own `make install` filled. */
const INSTALLED = 'installed'

/** Find the agent the settings name, building it when they name a repository: at the commit of the lock, if any. */
export async function resolveAgent(
  settings: Settings,
  arch: ArchName,
  places: { readonly cacheDir: string; readonly logFile: string },
): Promise<AgentSource> {
  if (settings.AGENT_SOURCE_BIN !== '') {
    return { kind: 'file', file: settings.AGENT_SOURCE_BIN, sha256: sha256File(settings.AGENT_SOURCE_BIN) }
  }
  if (settings.AGENT_TARBALL !== '') {
    return { kind: 'archive', file: settings.AGENT_TARBALL, sha256: sha256File(settings.AGENT_TARBALL) }
  }
  if (settings.AGENT_REPO !== '') return buildAgent(settings, arch, places)
  return { kind: 'bundled', ...(await bundledAgent(arch, places.cacheDir)) }
}

/**
 * Clone the agent's repository into the cache and build it with its own `make` and `make install`.
 *
 * The user's checkout, when AGENT_REPO is one, is only read: no checkout and no build happen in it.
 */
async function buildAgent(
  settings: Settings,
  arch: ArchName,
  { cacheDir, logFile }: { readonly cacheDir: string; readonly logFile: string },
): Promise<AgentSource> {
  const url = settings.AGENT_REPO
  const locked = lockedAgent(settings)
  if (locked === undefined && settings.OFFLINE) throw offlineWithoutLock(settings.LOCK_FILE)
  const commit = locked?.commit ?? (await commitOf(url, settings.AGENT_VERSION))
  const variables = [
    `LIBC=${settings.LIBC}`,
    `INIT=${yesNo(settings.AGENT_INIT)}`,
    `SECCOMP=${yesNo(settings.SECCOMP)}`,
    `AGENT_POLICY=${yesNo(settings.AGENT_POLICY)}`,
    `ARCH=${arch}`,
  ]
  const key = fingerprint({ url, commit, variables, folder: settings.AGENT_SOURCE_DIR })
  const known = findEntry(cacheDir, 'agent', key)
  if (known !== undefined) return { kind: 'built', folder: join(known, INSTALLED), url, commit }
  const entry = await makeEntry(cacheDir, 'agent', key, async (made) => {
    report('AGENT', `${url} ${commit.slice(0, 12)}`, 'building')
    const options = { logFile, verbose: settings.DEBUG }
    await withTemporary(join(cacheDir, 'agent', `source-${key.slice(0, 32)}`), async (source) => {
      await checkOut(settings, commit, source, options)
      const makefile = join(source, settings.AGENT_SOURCE_DIR)
      await run(['make', '-C', makefile, ...variables], options)
      const installed = join(made, INSTALLED)
      mkdirSync(installed)
      await run(['make', '-C', makefile, 'install', `DESTDIR=${installed}`, ...variables], options)
    })
  })
  return { kind: 'built', folder: join(entry, INSTALLED), url, commit }
}

/** The commit from VENDOR_DIR when it is there, else from the repository. */
async function checkOut(
  { AGENT_REPO: repo, VENDOR_DIR: vendorDir, OFFLINE: isOffline }: Settings,
  commit: string,
  folder: string,
  options: { readonly logFile: string; readonly verbose: boolean },
): Promise<void> {
  const of = { repo, commit, withHistory: true }
  const vendored = namedBlob(vendorDir, gitTitle(of))
  if (vendored !== undefined) {
    await unpackCommit(vendored, of, folder, options.logFile)
    return
  }
  if (isOffline) throw notVendored(`agent ${repo} ${commit.slice(0, 12)}`, vendorDir)
  await run(['git', 'clone', '--quiet', '--no-checkout', '--', repo, folder], options)
  await run(['git', '-C', folder, 'checkout', '--quiet', '--detach', commit], options)
}

/**
 * The commit that a version of a repository stands for; its newest one for the empty text.
 *
 * @throws BuildError E_INPUT when there is no such tag or branch
 */
export async function commitOf(url: string, version: string): Promise<string> {
  if (/^[0-9a-f]{40}$/.test(version)) return version
  const wanted = version === '' ? 'HEAD' : version
  // A tag that is an object of its own is listed a second time, as the commit it names.
  const listing = await capture(['git', 'ls-remote', '--', url, wanted, `${wanted}^{}`])
  const rows = listing.split('\n').map((line) => line.split('\t'))
  const commit = (rows.find(([, name]) => name?.endsWith('^{}') === true) ?? rows[0])?.[0] ?? ''
  if (commit !== '') return commit
  throw new BuildError('E_INPUT', `AGENT_VERSION=${version}: no such tag or branch in ${url}`, {
    hint: `git ls-remote ${url}    lists what there is; a commit is given by its 40 digits`,
  })
}

function yesNo(value: boolean): string {
  return value ? 'yes' : 'no'
}
