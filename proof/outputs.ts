// SPDX-License-Identifier: Apache-2.0
import { existsSync, readdirSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'

import type { Json } from '../scripts/digest.ts'
import { BuildError } from '../scripts/errors.ts'
import { manifestPath, readManifest } from '../scripts/manifest.ts'
import type { Manifest } from '../scripts/manifest.ts'
import { guestWords } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import type { Workspace } from '../scripts/workspace.ts'

/** Something that was built, and what was written beside it. */
export interface Output {
  readonly path: string
  readonly manifest: Manifest
}

export type Table = Readonly<Record<string, Json>>

/** A value of JSON as a table; an empty one when it is none. */
export function tableOf(value: Json): Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Table) : {}
}

/** A value of JSON as a text; `''` when it is none. */
export function textOf(value: Json): string {
  return typeof value === 'string' ? value : ''
}

/** Inputs of the rootfs that an output is, or was made from; empty for a kernel and a foreign rootfs. */
export function rootfsInputs({ kind, inputs, result }: Manifest): Table {
  if (kind === 'rootfs') return inputs
  return kind === 'kernel' ? {} : tableOf(tableOf(result['rootfs'])['inputs'])
}

/**
 * The outputs that are given by name, else every one of DISTRO and every kernel in the workspace.
 *
 * @throws BuildError E_INPUT when one has no manifest, or none is there
 */
export function findOutputs(settings: Settings, workspace: Workspace, given: readonly string[]): Output[] {
  if (given.length > 0) return given.map((path) => openOutput(resolve(path)))
  const folders = new Set([workspace.workDir, workspace.rootfsDest, workspace.imagesDest])
  const found = [...folders].flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => name.endsWith('.json') && existsSync(join(folder, name.slice(0, -'.json'.length))))
      .sort()
      .map((name) => join(folder, name.slice(0, -'.json'.length))),
  )
  if (settings.ROOTFS_DIR !== '' && existsSync(manifestPath(settings.ROOTFS_DIR)))
    found.push(settings.ROOTFS_DIR)
  const outputs = [...new Set(found)]
    .map((path) => ({ path, manifest: readManifest(path) }))
    .filter((output): output is Output => output.manifest !== undefined)
    .filter(({ manifest }) => isOf(manifest, settings.DISTRO))
  if (outputs.length > 0) return outputs
  throw new BuildError('E_INPUT', `${workspace.workDir}: nothing of ${settings.DISTRO} was built here`, {
    hint: `make ${guestWords(settings)} image    builds a rootfs and an image`,
  })
}

function isOf(manifest: Manifest, distro: string): boolean {
  const own = textOf(rootfsInputs(manifest)['distro'])
  return own === '' || own === distro
}

function openOutput(path: string): Output {
  if (!existsSync(path)) throw new BuildError('E_INPUT', `${path}: no such output`)
  const manifest = readManifest(path)
  if (manifest !== undefined) return { path, manifest }
  throw new BuildError('E_INPUT', `${basename(manifestPath(path))}: no manifest is beside ${path}`, {
    hint: 'give the path of a rootfs, image, initrd or kernel whose manifest lies beside it',
  })
}

/** Files beside the one that has the manifest which it tells of too: those of a kernel, an image's root hash. */
export function otherFiles({ path, manifest }: Output): string[] {
  const line = textOf(tableOf(manifest.result['verity'])['file'])
  const names = manifest.kind === 'kernel' ? manifest.result['files'] : line === '' ? [] : [line]
  return (Array.isArray(names) ? names : [])
    .map((name: Json) => textOf(name))
    .filter((name) => name !== basename(path) && !name.startsWith('modules-'))
    .map((name) => join(dirname(path), basename(name)))
}
