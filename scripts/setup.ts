// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { managerOf } from '../rootfs-builder/distros.ts'
import { BuildError } from './errors.ts'
import { HOST_TOOLS } from './host-tools.ts'
import type { HostManager, HostTool, ToolTarget } from './host-tools.ts'
import { report } from './log.ts'
import { isRoot } from './namespace.ts'
import { findTool, run } from './run.ts'
import { hostArch, readSettings } from './settings.ts'
import type { Settings } from './settings.ts'
import { runStep } from './step.ts'
import type { StepArguments } from './step.ts'

const USAGE = `
Install the host packages that are missing, or tell which.

  setup.js [-n] [TARGET…]

  -h  show this help
  -n  only tell what is missing, per target (make check-deps)

TARGET is a make target, such as image or test (default: rootfs, image, initrd and boot).
`

/** How each package manager installs, without asking and without what is only suggested. */
const INSTALL: Readonly<Record<HostManager, readonly (readonly string[])[]>> = {
  apt: [
    ['apt-get', 'update', '--quiet'],
    ['apt-get', 'install', '--yes', '--quiet', '--no-install-recommends'],
  ],
  dnf: [['dnf', 'install', '--assumeyes', '--setopt=install_weak_deps=False']],
  apk: [['apk', 'add']],
}

const PROGRAMS: Readonly<Record<HostManager, string>> = { apt: 'apt-get', dnf: 'dnf', apk: 'apk' }

/** Where the kernel is told what runs foreign programs. */
const BINFMT = '/proc/sys/fs/binfmt_misc'

await runStep({ name: 'setup', usage: USAGE, switches: ['n'], needsOwners: false, main })

async function main(given: StepArguments): Promise<void> {
  const settings = readSettings()
  const targets = neededTargets(given.positional, settings)
  const missing = missingTools(targets)
  if (given.has('n')) {
    tellPerTarget(targets)
    if (missing.length > 0) throw missingError(missing)
    return
  }
  if (missing.length === 0) {
    report('SETUP', `${String(toolsOf(targets).length)} host tools present`)
    await enableForeignPrograms(targets)
    return
  }
  for (const tool of missing) report('SETUP', `${tool.tool}: ${tool.why}`, packageNames([tool]).join(' '))
  if (!isRoot()) throw missingError(missing)
  await install(missing)
  const still = missingTools(targets)
  if (still.length > 0) throw missingError(still)
  report('SETUP', `${String(missing.length)} host tools installed`)
  await enableForeignPrograms(targets)
}

/** Let the kernel start foreign programs through qemu-user; a host with systemd has done so by itself. */
async function enableForeignPrograms(targets: readonly ToolTarget[]): Promise<void> {
  const needed = toolsOf(targets).filter(({ tool }) => /^qemu-.*-static$/.test(tool))
  const isEnabled = needed.every(({ tool }) => existsSync(join(BINFMT, tool.replace(/-static$/, ''))))
  if (isEnabled || !isRoot()) return
  if (!existsSync(`${BINFMT}/register`)) await run(['mount', '-t', 'binfmt_misc', 'binfmt_misc', BINFMT])
  await run(['update-binfmts', '--enable'])
}

/** What the given make targets need: a target stands for itself and for what it is made from. */
function neededTargets(names: readonly string[], settings: Settings): ToolTarget[] {
  const needs = new Set<ToolTarget>()
  const all: readonly ToolTarget[] = ['rootfs', 'image', 'initrd', 'boot']
  const asked = names
    .map((name) => name.replace(/-.*$/, ''))
    .filter((name) => !['setup', 'check'].includes(name))
  for (const name of asked.length === 0 ? all : asked) {
    if (name === 'test')
      for (const need of [...all, 'kernel' as const, 'proof' as const, 'test' as const]) needs.add(need)
    else if (name === 'kernel') needs.add(name)
    else if (['sbom', 'sign', 'verify', 'repro'].includes(name)) needs.add('proof')
    else if (name === 'all' || name === 'boot' || name === 'shell' || name === 'bench')
      for (const need of all) needs.add(need)
    else if (name === 'image' || name === 'initrd') {
      needs.add('rootfs')
      needs.add(name)
    } else if (name === 'rootfs') needs.add('rootfs')
  }
  if (settings.ARCH !== 'host' && settings.ARCH !== hostArch()) needs.add(`foreign-${settings.ARCH}`)
  const manager = managerOf(settings)
  if (needs.has('rootfs') && (manager === 'dracut' || manager === 'dnf')) needs.add(manager)
  if (needs.has('image') && (settings.FS_TYPE === 'xfs' || settings.FS_TYPE === 'squashfs'))
    needs.add(settings.FS_TYPE)
  if (needs.has('image') && settings.VERITY_KEY !== '') needs.add('signing')
  return [...needs]
}

function toolsOf(targets: readonly ToolTarget[]): HostTool[] {
  return HOST_TOOLS.filter((tool) => tool.targets.some((target) => targets.includes(target)))
}

function missingTools(targets: readonly ToolTarget[]): HostTool[] {
  return toolsOf(targets).filter(({ tool }) => findTool(tool) === undefined)
}

function tellPerTarget(targets: readonly ToolTarget[]): void {
  for (const target of targets) {
    const missing = missingTools([target])
    const text = missing.length === 0 ? 'ready' : `missing ${missing.map(({ tool }) => tool).join(', ')}`
    report('DEPS', target.padEnd(8), text)
  }
}

function hostManager(): HostManager | undefined {
  return (['apt', 'dnf', 'apk'] as const).find((manager) => findTool(PROGRAMS[manager]) !== undefined)
}

/** Packages of this host that have the tools; the tool's own name where we know of none. */
function packageNames(tools: readonly HostTool[]): string[] {
  const manager = hostManager()
  return [
    ...new Set(
      tools.map(({ tool, packages }) => (manager === undefined ? undefined : packages[manager]) ?? tool),
    ),
  ]
}

function missingError(tools: readonly HostTool[]): BuildError {
  return new BuildError('E_TOOL_MISSING', `${String(tools.length)} host tools are missing`, {
    because: tools.map((tool) => `${tool.tool}: package ${packageNames([tool]).join(' ')} (${tool.why})`),
    hint: 'sudo make setup    installs them',
  })
}

async function install(tools: readonly HostTool[]): Promise<void> {
  const manager = hostManager()
  if (manager === undefined) {
    throw new BuildError(
      'E_TOOL_MISSING',
      'this host has none of apt, dnf and apk to install packages with',
      {
        because: tools.map(({ tool, why }) => `${tool}: ${why}`),
        hint: 'install these tools by hand',
      },
    )
  }
  const commands = INSTALL[manager]
  for (const [index, command] of commands.entries()) {
    const isLast = index === commands.length - 1
    await run([...command, ...(isLast ? packageNames(tools) : [])], {
      env: { DEBIAN_FRONTEND: 'noninteractive' },
    })
  }
}
