// SPDX-License-Identifier: Apache-2.0
import {
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'

import { fingerprint } from '../digest.ts'
import { protectEdits, refuseForeignFolder } from '../guard.ts'
import { withLock } from '../lock.ts'
import { report } from '../log.ts'
import { isCurrent, listingPath, outputStamp, readManifest, readState, writeManifest } from '../manifest.ts'
import type { Manifest } from '../manifest.ts'
import { capture } from '../run.ts'
import { discard, temporaryFor, withTemporary } from '../temporary.ts'
import { listTree } from '../tree-stamp.ts'
import type { Workspace } from '../workspace.ts'

/** Beside an image lies what tells its root hash, and has no manifest of its own. */
const ROOT_HASH = /^root_hash_.*\.(txt|p7s)$/

/**
 * Read a tar of what a step made in `folder` of a container from stdin, and publish it here.
 *
 * What was built here already from the same inputs stays; edits are protected as on the host.
 *
 * @param packed the rootfs of this host that the step packed
 */
export async function receive(
  workspace: Workspace,
  folder: string,
  packed: string | undefined,
): Promise<void> {
  mkdirSync(folder, { recursive: true })
  const arrived = temporaryFor(join(folder, 'arrived'))
  try {
    mkdirSync(arrived)
    const flags = ['--numeric-owner', '--preserve-permissions', '--xattrs', '--xattrs-include=*']
    await capture(['tar', '--extract', '--directory', arrived, ...flags], { input: process.stdin })
    keepLogs(join(arrived, basename(workspace.logDir)), workspace.logDir)
    await publish(workspace, arrived, folder, packed)
  } finally {
    discard(arrived)
  }
}

function keepLogs(from: string, to: string): void {
  if (!existsSync(from)) return
  for (const name of readdirSync(from)) copyFileSync(join(from, name), join(to, name))
}

async function publish(
  workspace: Workspace,
  arrived: string,
  folder: string,
  packed: string | undefined,
): Promise<void> {
  const outputs = readdirSync(arrived).filter((name) => readManifest(join(arrived, name)) !== undefined)
  const others = new Set(readdirSync(arrived).filter((name) => ROOT_HASH.test(name)))
  for (const name of outputs) {
    for (const file of filesOf(readManifest(join(arrived, name)))) if (file !== name) others.add(file)
  }
  const isNew = new Map<string, Manifest>()
  for (const name of outputs) {
    const manifest = await manifestHere(readManifest(join(arrived, name)), packed)
    const output = join(folder, name)
    if (isThere(output, manifest)) report(manifest.kind.toUpperCase(), name, 'unchanged')
    else isNew.set(name, manifest)
  }
  if (isNew.size === 0) return
  // The output is last: its manifest tells of all of them.
  for (const name of others) {
    if (existsSync(join(arrived, name))) await place(join(arrived, name), join(folder, name))
  }
  for (const [name, manifest] of isNew) {
    const output = join(folder, name)
    await withLock(workspace, output, 'exclusive', async () => {
      if (manifest.kind === 'rootfs') {
        refuseForeignFolder(output)
        await protectEdits(output)
      }
      await withTemporary(output, async (temporary) => {
        renameSync(join(arrived, name), temporary)
        writeManifest(output, temporary, manifest, await stampOf(output, temporary))
      })
    })
  }
}

/** Names of the files that a kernel is published as. */
function filesOf(manifest: Manifest | undefined): string[] {
  const files = manifest?.result['files']
  // A name with a slash would lead elsewhere.
  return Array.isArray(files) ? files.map(String).filter((name) => basename(name) === name) : []
}

/** What is packed has another stamp in every place that it is copied to; here it is the one of this host. */
async function manifestHere(manifest: Manifest | undefined, packed: string | undefined): Promise<Manifest> {
  if (manifest === undefined) throw new TypeError('an output without manifest')
  if (packed === undefined || typeof manifest.inputs['rootfs'] !== 'string') return manifest
  const inputs = { ...manifest.inputs, rootfs: (await listTree(packed)).stamp }
  return { ...manifest, inputs, fingerprint: fingerprint(inputs) }
}

/** True when there is such an output already. A rootfs may have been edited since, and is kept. */
function isThere(output: string, { kind, fingerprint }: Manifest): boolean {
  if (kind === 'rootfs') return readState(output)?.fingerprint === fingerprint
  return isCurrent(output, fingerprint)
}

async function place(from: string, to: string): Promise<void> {
  await withTemporary(to, (temporary) => {
    renameSync(from, temporary)
    return Promise.resolve()
  })
}

/** The stamp of an output that still has its temporary name; of a rootfs the listing as well. */
async function stampOf(output: string, temporary: string): Promise<string> {
  if (!lstatSync(temporary).isDirectory()) return outputStamp(temporary)
  const listing = await listTree(temporary)
  writeFileSync(listingPath(output), listing.lines.join('\n'))
  return listing.stamp
}
