// SPDX-License-Identifier: Apache-2.0
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { guestWords, hostArch } from './settings.ts'
import { fingerprint } from './digest.ts'
import type { Json } from './digest.ts'
import { epochSeconds } from './epoch.ts'
import { BuildError } from './errors.ts'
import { withLock } from './lock.ts'
import { readManifest, readState } from './manifest.ts'
import type { Manifest } from './manifest.ts'
import { checkRootfs } from './rootfs-check.ts'
import type { Settings } from './settings.ts'
import { listEntries } from './tree-stamp.ts'
import { findTree } from './tree-find.ts'
import { takeReading } from './tree-reading.ts'
import type { TreeEntry } from './tree.ts'
import type { Workspace } from './workspace.ts'

/** Settings that decide which rootfs is packed and what is asked of it. */
export const SOURCE_SETTINGS = ['AGENT_BIN', 'AGENT_INIT', 'ARCH', 'SKIP_ROOTFS_CHECK'] as const

/**
 * The settings that decide the bytes: what is only checked does not change what is packed, nor does it
 * whether the machine that packs is called the host.
 */
export function withoutChecks<Chosen extends Pick<Settings, 'ARCH' | 'SKIP_ROOTFS_CHECK'>>(
  chosen: Chosen,
): Omit<Chosen, 'SKIP_ROOTFS_CHECK'> {
  const { SKIP_ROOTFS_CHECK: _, ...rest } = chosen
  return { ...rest, ARCH: chosen.ARCH === 'host' ? hostArch() : chosen.ARCH }
}

/** A rootfs as a packer sees it. */
export interface SourceRootfs {
  readonly folder: string
  readonly entries: readonly TreeEntry[]
  /** Changes with every change of the folder on this machine. */
  readonly stamp: string
  /** Unit: seconds since 1970. */
  readonly epochSeconds: number
  /** The manifest of the rootfs, when we built it. */
  readonly manifest: Manifest | undefined
  /** True when it was changed after it was built, or built by something else. */
  readonly isEdited: boolean
}

/** Folder of the rootfs to pack: the one given, else ROOTFS_DIR, else the one of DISTRO in the workspace. */
export function sourceFolder(
  settings: Pick<Settings, 'ROOTFS_DIR' | 'DISTRO'>,
  workspace: Pick<Workspace, 'rootfsDest'>,
  given: string | undefined,
): string {
  return given ?? (settings.ROOTFS_DIR || join(workspace.rootfsDest, `${settings.DISTRO}_rootfs`))
}

/**
 * Read the rootfs to pack: the folder given, else ROOTFS_DIR, else the one of DISTRO in the workspace.
 *
 * @param meanwhile what this process can do while another one reads
 * @throws BuildError E_INPUT when it is missing, or is owned by users this process cannot see
 */
export async function openRootfs(
  settings: Settings,
  workspace: Workspace,
  given: string | undefined,
  meanwhile: () => void = () => undefined,
): Promise<SourceRootfs> {
  const folder = sourceFolder(settings, workspace, given)
  if (!existsSync(folder) || !statSync(folder).isDirectory()) {
    throw new BuildError('E_INPUT', `${folder}: no such rootfs`, {
      hint: `make ${guestWords(settings)} rootfs    builds it`,
    })
  }
  const state = readState(folder)
  const left = takeReading(folder, state?.stamp)
  const reading = left === undefined ? findTree(folder) : Promise.resolve(left)
  // A failure of what is done here is told, not that of what it does not wait for any more.
  reading.catch(() => undefined)
  meanwhile()
  const kept = state === undefined ? undefined : readManifest(folder)
  // A build that was killed may have told of its tree before that had the name.
  const manifest = kept?.fingerprint === state?.fingerprint ? kept : undefined
  const entries = await reading
  refuseForeignOwners(folder, entries)
  const { stamp } = listEntries(entries)
  return {
    folder,
    entries,
    stamp,
    epochSeconds: await epochSeconds(settings, () => newest(entries)),
    manifest,
    isEdited: state?.stamp !== stamp,
  }
}

/**
 * Open the rootfs and do `work` with it, while no build changes it: one that is being rebuilt has no name
 * and is waited for. Fails as openRootfs does.
 */
export async function withRootfs<Result>(
  settings: Settings,
  workspace: Workspace,
  given: string | undefined,
  work: (rootfs: SourceRootfs) => Promise<Result>,
  meanwhile?: () => void,
): Promise<Result> {
  return withLock(workspace, sourceFolder(settings, workspace, given), 'shared', async () =>
    work(await openRootfs(settings, workspace, given, meanwhile)),
  )
}

function newest(entries: readonly TreeEntry[]): number {
  return entries.reduce((time, entry) => Math.max(time, entry.mtimeSeconds), 0)
}

/** The id that stands for every owner a user namespace has no name for. Source: user_namespaces(7) */
const OVERFLOW_ID = 65534

function refuseForeignOwners(folder: string, entries: readonly TreeEntry[]): void {
  if (entries[0]?.uid !== OVERFLOW_ID) return
  throw new BuildError('E_PERMISSION', `${folder}: belongs to another user of this machine`, {
    because: ['its owners would be lost in what is packed from it'],
    hint: 'build as that user (sudo -E make … when it was built with sudo), or give another WORKDIR',
  })
}

/** Check that the guest would come up, unless the user said not to. */
export function checkSource(settings: Settings, rootfs: SourceRootfs): void {
  if (settings.SKIP_ROOTFS_CHECK) return
  const arch = settings.ARCH === 'host' ? hostArch() : settings.ARCH
  checkRootfs(
    rootfs.entries,
    { agentInit: settings.AGENT_INIT, agentBin: settings.AGENT_BIN, arch },
    rootfs.folder,
  )
}

/** What names the content of the tree, the same on every machine: the source of all generated ids. */
export function contentFingerprint(rootfs: SourceRootfs, settings: Json): string {
  const lines = rootfs.entries.map(({ path, mode, uid, gid, sizeBytes, mtimeSeconds, linkTarget }) => [
    path,
    mode,
    uid,
    gid,
    sizeBytes,
    Math.min(mtimeSeconds, rootfs.epochSeconds),
    linkTarget,
  ])
  return fingerprint({ lines, settings, rootfs: rootfs.manifest?.fingerprint })
}

/** What the manifest of an artifact tells of the rootfs it was made from. */
export function describeRootfs(rootfs: SourceRootfs): { readonly [key: string]: Json } {
  return {
    edited: rootfs.isEdited,
    entries: rootfs.entries.length,
    ...(rootfs.manifest === undefined
      ? {}
      : {
          fingerprint: rootfs.manifest.fingerprint,
          inputs: rootfs.manifest.inputs,
          packages: rootfs.manifest.result['packages'] ?? [],
        }),
  }
}
