// SPDX-License-Identifier: Apache-2.0
import { existsSync, lstatSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { fingerprint } from '../scripts/digest.ts'
import { report, seconds } from '../scripts/log.ts'
import { withTemporary, writeWhole } from '../scripts/temporary.ts'
import type { Workspace } from '../scripts/workspace.ts'
import { applyPatches, findPatches, sealVersion, treeVersion } from './patches.ts'
import type { Patch } from './patches.ts'
import type { ResolvedSource } from './sources/source.ts'

/** Patched sources, ready to be configured. */
export interface SourceTree {
  readonly folder: string
  /** Such as `6.1.192`. */
  readonly version: string
  /** Equal for equal content. */
  readonly fingerprint: string
  /** Objects compiled from the tree stay useful while this is the same. */
  readonly objectsKey: string
  readonly patches: readonly Patch[]
}

interface TreeState {
  readonly title: string
  readonly identity: string
  readonly version: string
  readonly patches: readonly string[]
  readonly inode: string
}

export interface TreeRequest {
  readonly workspace: Workspace
  readonly source: ResolvedSource
  readonly variants: readonly string[]
  /** KERNEL_PATCHES, or the empty string. */
  readonly patchesDir: string
  readonly logFile: string
}

function stateFile(workspace: Workspace): string {
  return join(workspace.workDir, '.linux.state')
}

/** The tree in WORKDIR as it is now, when it is the asked one; else undefined. */
export function currentTree(request: TreeRequest): SourceTree | undefined {
  const state = readState(request.workspace)
  if (state === undefined || state.identity !== fingerprint(request.source.identity)) return undefined
  const patches = findPatches(state.version, request.variants, request.patchesDir)
  if (patches.map(({ sha256 }) => sha256).join() !== state.patches.join()) return undefined
  return describe(request, state.version, patches)
}

/** The asked tree in WORKDIR/linux: the one there, or one line of why not, and a fresh one. */
export async function prepareTree(request: TreeRequest): Promise<SourceTree> {
  const current = currentTree(request)
  if (current !== undefined) return current
  const startMs = Date.now()
  const { workspace, source, logFile } = request
  const folder = join(workspace.workDir, 'linux')
  if (existsSync(folder)) report('SOURCE', `linux is ${describeOld(workspace)}: unpacking anew`)
  writeFileSync(logFile, '')
  const { version, patches } = await withTemporary(folder, async (temporary) => {
    mkdirSync(temporary)
    await source.unpack(temporary)
    const found = treeVersion(temporary)
    const chosen = findPatches(found, request.variants, request.patchesDir)
    await applyPatches(chosen, temporary, logFile)
    sealVersion(temporary)
    const state: TreeState = {
      title: source.title,
      identity: fingerprint(source.identity),
      version: found,
      patches: chosen.map(({ sha256 }) => sha256),
      inode: String(lstatSync(temporary).ino),
    }
    writeWhole(stateFile(workspace), JSON.stringify(state))
    return { version: found, patches: chosen }
  })
  const patched = patches.length === 0 ? '' : `${String(patches.length)} patches`
  report('SOURCE', source.title, patched, seconds(Date.now() - startMs))
  return describe(request, version, patches)
}

function describe(request: TreeRequest, version: string, patches: readonly Patch[]): SourceTree {
  const { workspace, source } = request
  const digests = patches.map(({ sha256 }) => sha256)
  const { stamp, ...lasting } = source.identity
  return {
    folder: join(workspace.workDir, 'linux'),
    version,
    fingerprint: fingerprint({ identity: source.identity, digests }),
    // Times of unpacked files are those of their release: make would take changed ones for old.
    objectsKey: fingerprint({
      identity: source.keepsTimes ? lasting : { ...lasting, stamp },
      digests,
    }),
    patches,
  }
}

/** What is known of the tree that now has the name. */
function readState(workspace: Workspace): TreeState | undefined {
  const file = stateFile(workspace)
  const folder = lstatSync(join(workspace.workDir, 'linux'), { throwIfNoEntry: false })
  if (folder === undefined || !existsSync(file)) return undefined
  const text = readFileSync(file, 'utf8')
  const state = text === '' ? undefined : (JSON.parse(text) as TreeState)
  return state?.inode === String(folder.ino) ? state : undefined
}

function describeOld(workspace: Workspace): string {
  const state = readState(workspace)
  if (state === undefined) return 'of unknown origin'
  const count = state.patches.length
  return `${state.title} with ${count === 0 ? 'no patches' : `${String(count)} patches`}`
}
