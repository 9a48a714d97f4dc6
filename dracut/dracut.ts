// SPDX-License-Identifier: Apache-2.0
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

import { sha256File } from '../scripts/digest.ts'
import { BuildError } from '../scripts/errors.ts'
import { PRIVATE_NAMESPACE } from '../scripts/namespace.ts'
import { PROJECT_ROOT } from '../scripts/paths.ts'
import { capture, requireTools, run } from '../scripts/run.ts'
import { hostArch } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import { discard, temporaryFor } from '../scripts/temporary.ts'
import { checkDrivers, configFiles, readDrivers } from './drivers.ts'
import { thisHost } from './host.ts'
import type { Host } from './host.ts'

/**
 * Dracut's modules for a guest with systemd: no part of its own way through an initrd, which ends with
 * another root, but the system and service manager that it shares with one.
 */
const SYSTEMD_MODULES = [
  'systemd',
  'systemd-journald',
  'systemd-modules-load',
  'systemd-sysctl',
  'systemd-tmpfiles',
  'systemd-udevd',
  'udev-rules',
  'dbus-daemon',
  'dbus',
]

/** A guest whose PID 1 is the agent needs a shell, for hooks and for people. */
const AGENT_MODULES = ['bash']

/** Settings of dracut that keep out what only this machine has, and keep it from writing logs. */
const NOTHING_OF_THIS_MACHINE = [
  'hostonly="no"',
  'hostonly_cmdline="no"',
  'early_microcode="no"',
  'reproducible="yes"',
  'fileloglvl="0"',
  'sysloglvl="0"',
]

/** What the guest is called: the name of this host's system, which it is a part of. */
const OS_RELEASE = ['/etc/os-release', '/usr/lib/os-release']

/** Small programs that people and hooks expect. */
const PROGRAMS = [
  'cat',
  'grep',
  'head',
  'ls',
  'mkdir',
  'mount',
  'rm',
  'sleep',
  'sync',
  'test',
  'umount',
  'uname',
]

/** With these the bundled agent loads modules, where it is PID 1. */
const MODULE_TOOLS = ['kmod', 'modprobe', 'lsmod']

/** What a guest made from this host consists of. */
export interface DracutTree {
  readonly host: Host
  readonly configs: readonly string[]
  readonly drivers: readonly string[]
  /** Release of the guest kernel; empty for none of its modules. */
  readonly kernelVersion: string
  /** `lib/modules/<version>` of that kernel. */
  readonly modulesDir: string
  readonly agentInit: boolean
  /** Libraries that an agent of the user's is linked with. */
  readonly libraries: readonly string[]
  /** Digests and settings that decide the tree. */
  readonly inputs: Readonly<
    Record<string, string | boolean | readonly string[] | Readonly<Record<string, string>>>
  >
}

/** Settings that make no sense when the guest is taken from this host. */
export function checkDracutSettings(settings: Settings): string[] {
  if (settings.BUILD_METHOD !== 'dracut') return []
  return [
    ...(settings.ARCH === 'host' || settings.ARCH === hostArch()
      ? []
      : [`ARCH=${settings.ARCH}: dracut takes the guest from this host, which is ${hostArch()}`]),
    ...(settings.EXTRA_PKGS.length === 0
      ? []
      : [
          `EXTRA_PKGS=${settings.EXTRA_PKGS.join(' ')}: dracut installs no packages; install_items+=" … " in a file of DRACUT_CONF_DIR adds files of this host`,
        ]),
  ]
}

/** Decide what dracut takes from this host. */
export async function planDracut(settings: Settings): Promise<DracutTree> {
  requireTools(['dracut', 'cpio'])
  const folder = settings.DRACUT_CONF_DIR || join(PROJECT_ROOT, 'dracut', 'dracut.conf.d')
  const configs = configFiles(folder)
  const drivers = readDrivers(configs)
  const kernelVersion = settings.DRACUT_KVERSION
  if (drivers.length > 0 && kernelVersion === '') {
    throw new BuildError('E_CONFIG', `drivers="${drivers.join(' ')}": DRACUT_KVERSION is not set`, {
      because: [`they are named in ${folder}, and the kernel that has them is not`],
      hint: `make BUILD_METHOD=dracut DRACUT_KVERSION=$(uname -r) …    with the version of the guest kernel`,
    })
  }
  const modulesDir = settings.KERNEL_MODULES_DIR || join('/lib/modules', kernelVersion)
  const modules = kernelVersion === '' ? '' : checkDrivers(drivers, kernelVersion, modulesDir)
  const host = thisHost()
  const libraries = await librariesOf(settings.AGENT_SOURCE_BIN)
  return {
    host,
    configs,
    drivers,
    kernelVersion,
    modulesDir,
    agentInit: settings.AGENT_INIT,
    libraries,
    inputs: {
      host: host.digests,
      configs: Object.fromEntries(configs.map((file) => [basename(file), sha256File(file)])),
      kernelVersion,
      modules,
      libraries: libraries.map((file) => `${file} ${sha256File(file)}`),
      agentInit: settings.AGENT_INIT,
    },
  }
}

/** Libraries of a dynamically linked program, by ldd(1); none for a static one or for no program. */
async function librariesOf(program: string): Promise<string[]> {
  if (program === '' || !existsSync(program)) return []
  if (!readFileSync(program).subarray(0, 4).equals(Buffer.from('\x7fELF', 'latin1'))) return []
  const said = await capture(['ldd', program], { acceptFailure: true })
  return [...said.matchAll(/(\/\S+) \(0x/g)].map((match) => String(match[1])).sort()
}

/**
 * Let dracut collect the tree and store it as a tar, unpacking a copy on the way, as other bootstraps do.
 *
 * Everything is root's: in a user namespace the host's own files have no owner that could be kept, and
 * root and user give the same bytes.
 */
export async function bootstrapDracut(
  tree: DracutTree,
  targetDir: string,
  tarFile: string,
  options: { readonly logFile: string; readonly verbose: boolean },
): Promise<void> {
  requireTools(['setpriv', 'unshare', 'dracut', 'cpio', 'tar', 'bash'])
  const scratch = temporaryFor(`${tarFile}.scratch`)
  for (const name of ['tmp', 'conf', 'tree']) mkdirSync(join(scratch, name), { recursive: true })
  try {
    for (const file of tree.configs) copyFileSync(file, join(scratch, 'conf', basename(file)))
    writeFileSync(join(scratch, 'conf', '90-guest.conf'), guestConfig(tree))
    if (tree.drivers.length > 0) {
      // systemd loads what is listed there.
      const folder = join(scratch, 'overlay/etc/modules-load.d')
      mkdirSync(folder, { recursive: true })
      writeFileSync(join(folder, 'kata-modules.conf'), tree.drivers.map((name) => `${name}\n`).join(''))
    }
    const script = [
      '"${@:5}" >&2',
      // The tree of the archive is replaced by this one, so it may not name owners of the host.
      'cd "$1/tree"; cpio --quiet --extract --make-directories --no-absolute-filenames --owner=0:0 < "$1/initrd"',
      'rm -rf init dev/* etc/cmdline.d etc/conf.d etc/machine-id sysroot usr/lib/dracut',
      // dracut adds the users that its modules need, and root is none of them.
      'mkdir -p etc; for file in passwd:root:x:0:0:root:/root:/bin/sh group:root:x:0:; do grep -qs ^root: "etc/${file%%:*}" || { echo "${file#*:}"; cat "etc/${file%%:*}" 2>/dev/null || true; } > etc/new && if [ -s etc/new ]; then mv etc/new "etc/${file%%:*}"; else rm -f etc/new; fi; done',
      'chown --recursive --no-dereference 0:0 .',
      `tar --create --sort=name --format=pax --pax-option=delete=atime,delete=ctime "--mtime=@$4" --clamp-mtime --numeric-owner . | tee "$3" | { tar --extract --directory "$2" --numeric-owner --preserve-permissions && cat >/dev/null; }`,
    ].join('\n')
    await run(
      [
        ...PRIVATE_NAMESPACE,
        ['bash', '-euo', 'pipefail', '-c', script, 'bash', scratch, targetDir, tarFile],
        [String(tree.host.epochSeconds), ...dracutArgv(tree, scratch)],
      ].flat(),
      {
        ...options,
        cwd: '/',
        env: { TMPDIR: join(scratch, 'tmp'), SOURCE_DATE_EPOCH: String(tree.host.epochSeconds) },
      },
    )
  } finally {
    discard(scratch)
  }
}

function dracutArgv({ kernelVersion, modulesDir, drivers }: DracutTree, scratch: string): string[] {
  return [
    ['dracut', '--force', '--no-compress', '--conf', '/dev/null', '--confdir', join(scratch, 'conf')],
    ['--tmpdir', join(scratch, 'tmp')],
    kernelVersion === '' ? ['--no-kernel'] : ['--kver', kernelVersion, '--kmoddir', modulesDir],
    drivers.length === 0 ? [] : ['--include', join(scratch, 'overlay'), '/'],
    [join(scratch, 'initrd')],
  ].flat()
}

function guestConfig({ agentInit, kernelVersion, drivers, libraries }: DracutTree): string {
  const modules = [
    ...AGENT_MODULES,
    ...(agentInit ? [] : SYSTEMD_MODULES),
    ...(kernelVersion === '' ? [] : ['kernel-modules']),
  ]
  const tools = kernelVersion === '' ? [] : MODULE_TOOLS
  return [
    ...NOTHING_OF_THIS_MACHINE,
    `dracutmodules="${modules.join(' ')}"`,
    `install_items+=" ${[...OS_RELEASE, ...PROGRAMS, ...tools, ...libraries].join(' ')} "`,
    // Just these, with what they need: all modules of a kernel are 100 MB.
    ...(kernelVersion === '' ? [] : [`drivers="${drivers.join(' ')}"`]),
    '',
  ].join('\n')
}
