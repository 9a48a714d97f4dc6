// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

import { STAGES } from './cache.ts'
import { BuildError } from './errors.ts'
import { capture } from './run.ts'
import type { Settings } from './settings.ts'
import { removeStale } from './temporary.ts'

/** Names a folder as one that osbuilder made, and so may remove. */
const MARKER = '.osbuilder-workdir'

export interface Workspace {
  readonly workDir: string
  readonly cacheDir: string
  readonly logDir: string
  /** Folder that gets `<distro>_rootfs`. */
  readonly rootfsDest: string
  /** Folder that gets images and initrds. */
  readonly imagesDest: string
}

/**
 * Open WORKDIR, making it when it is not there, and remove what killed builds left in it.
 *
 * @throws BuildError E_CONFIG when it is a folder with other things in it
 */
export function openWorkspace(
  settings: Pick<Settings, 'WORKDIR' | 'CACHE_DIR' | 'ROOTFS_BUILD_DEST' | 'IMAGES_BUILD_DEST'>,
): Workspace {
  const workDir = settings.WORKDIR
  if (!isWorkspace(workDir)) {
    refuseForeign(workDir)
    mkdirSync(workDir, { recursive: true })
    writeFileSync(
      join(workDir, MARKER),
      'Everything here was made by osbuilder; make distclean removes it.\n',
    )
  }
  const workspace = {
    workDir,
    cacheDir: settings.CACHE_DIR || join(workDir, 'cache'),
    logDir: join(workDir, 'logs'),
    rootfsDest: settings.ROOTFS_BUILD_DEST || workDir,
    imagesDest: settings.IMAGES_BUILD_DEST || workDir,
  }
  for (const folder of Object.values(workspace)) mkdirSync(folder, { recursive: true })
  return workspace
}

/**
 * Have ext4 put what is made in this folder of ours far from what was removed from it: for a minute or more
 * it gives no inode again that was freed, and looks at all of those for each new file near them. A tree that
 * was unpacked after another one was removed took 4 s instead of 0.7.
 *
 * Nothing happens where the file system has no such mark, or the folder is another user's.
 * Source: chattr(1), attribute T; Linux, fs/ext4/ialloc.c, recently_deleted and find_group_orlov
 */
export async function spreadFolders(folder: string): Promise<void> {
  if (!isWorkspace(folder)) return
  await capture(['chattr', '+T', folder]).catch(() => undefined)
}

/** Remove what killed builds left behind; call while holding a lock. */
export function removeLeftovers(workspace: Workspace, own: 'keep own' | 'own too' = 'keep own'): void {
  const { cacheDir, ...folders } = workspace
  const inCache = [...STAGES, 'index'].map((name) => join(cacheDir, name))
  // Objects of kernels.
  const inWork = join(folders.workDir, 'kernel')
  for (const folder of new Set([...Object.values(folders), inWork, cacheDir, ...inCache])) {
    removeStale(folder, own)
  }
}

/** File that names a folder as one that osbuilder made. */
export function markerOf(folder: string): string {
  return join(folder, MARKER)
}

/** True when the folder was made by openWorkspace. */
export function isWorkspace(folder: string): boolean {
  return existsSync(markerOf(folder))
}

function refuseForeign(workDir: string): void {
  const status = statSync(workDir, { throwIfNoEntry: false })
  const isTaken = status !== undefined && (!status.isDirectory() || readdirSync(workDir).length > 0)
  if (workDir !== '/' && workDir !== homedir() && !isTaken) return
  throw new BuildError(
    'E_CONFIG',
    `WORKDIR=${workDir}: is not an empty folder, nor one that osbuilder made`,
    {
      hint: `make WORKDIR=${join(workDir === '/' ? '/var/tmp' : workDir, 'workdir')} …`,
    },
  )
}

/** Version of this project, for what it writes into a guest. */
export function projectVersion(root: string): string {
  return (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }).version
}
