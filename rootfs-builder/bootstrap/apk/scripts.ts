// SPDX-License-Identifier: Apache-2.0
import { chmodSync, writeFileSync } from 'node:fs'
import { posix } from 'node:path'

import type { ArchName } from '../../../scripts/arch.ts'
import { BuildError } from '../../../scripts/errors.ts'
import { PRIVATE_NAMESPACE } from '../../../scripts/namespace.ts'
import { run } from '../../../scripts/run.ts'
import { exists, hostPath, makeFolder, remove } from '../../guest.ts'
import type { Guest } from '../../guest.ts'
import { mountDevices } from '../workplace.ts'
import type { PackageFacts, ScriptName } from './package.ts'

/** Folder of scripts while they run, as apk has it. */
export const SCRIPTS = 'lib/apk/exec'

/** A script sees no disk of the host, and no network. */
const IN_TREE = [
  'root=$1; dev=$2; shift 2',
  'mount -t tmpfs -o mode=0755 osbuilder "$dev"',
  mountDevices('"$dev"'),
  // The environment is apk's, whatever the host's is.
  'exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" "$@"',
].join('\n')

export interface Moment {
  readonly moment: ScriptName
  readonly args: readonly string[]
  readonly arch: ArchName
}

/**
 * Run a script of a package in the tree. Returns false when it has none for that moment.
 *
 * @throws BuildError E_INPUT when its interpreter is not there, E_CONFIG when this host cannot run
 *   programs of the guest, E_COMMAND when it fails
 */
export async function runScript(
  guest: Guest,
  { item, scripts }: PackageFacts,
  { moment, args, arch }: Moment,
  options: { readonly logFile: string; readonly verbose: boolean },
): Promise<boolean> {
  const content = scripts.get(moment)
  if (content === undefined) return false
  const name = `${item.name}-${item.version}.${moment}`
  const interpreter = /^#!\s*(\S+)/.exec(content.subarray(0, 200).toString('latin1'))?.[1]
  if (interpreter !== undefined && !exists(guest, interpreter)) {
    throw new BuildError('E_INPUT', `${name}: the guest has no ${interpreter} to run this script`, {
      because: [`no package that ${item.name} depends on brings it`],
      hint: `leave ${item.name} out of EXTRA_PKGS, or use another release with OS_VERSION`,
    })
  }
  for (const folder of [SCRIPTS, 'dev']) makeFolder(guest, folder)
  const path = posix.join(SCRIPTS, name)
  const file = hostPath(guest, path, false)
  writeFileSync(file, content, { flag: 'wx' })
  chmodSync(file, 0o755)
  try {
    await run(
      [
        PRIVATE_NAMESPACE,
        ['unshare', '--net', '--ipc', '--uts', '--'],
        ['bash', '-euo', 'pipefail', '-c', IN_TREE, 'bash', guest.root, hostPath(guest, 'dev')],
        // Without a leading slash, as apk calls it: scripts see their name.
        [path, ...args],
      ].flat(),
      { ...options, cwd: '/' },
    )
  } catch (error) {
    throw scriptError(error, name, arch, options.logFile)
  } finally {
    remove(guest, path)
  }
  return true
}

function scriptError(error: unknown, name: string, arch: ArchName, logFile: string): unknown {
  if (!(error instanceof BuildError) || error.code !== 'E_COMMAND') return error
  const { because } = error
  if (because.some((line) => line.includes('Exec format error'))) {
    return new BuildError('E_CONFIG', `${name}: this host cannot run programs of ${arch}`, {
      because: ['the script of the package must be run in the guest'],
      hint: `sudo make ARCH=${arch} setup`,
      cause: error,
    })
  }
  return new BuildError('E_COMMAND', `${name}: the script of the package failed`, {
    because,
    hint: `see ${logFile}`,
    cause: error,
  })
}
