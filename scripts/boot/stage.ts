// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { basename, join, relative } from 'node:path'

import { BuildError } from '../errors.ts'
import { BUNDLE_ROOT } from '../paths.ts'
import { run } from '../run.ts'
import { compareBytes } from '../tree.ts'

/** Folder of the stage in the guest; its `init` is the bundled agent, which reads `plan`. */
export const STAGE_DIR = '.osbuilder-boot'

/** What the boot devices need, most basic first; what the kernel has built in is not found and not missed. */
const WANTED = [
  ...['virtio_pci', 'virtio_mmio', 'virtio_blk', 'virtio_console', 'vmw_vsock_virtio_transport'],
  ...['crc32c_generic', 'ext4', 'nfit', 'virtio_pmem', 'nd_pmem'],
]

/** Where the guest continues after its modules are loaded. */
export type StageGoal =
  | { readonly kind: 'root'; readonly device: string; readonly filesystem: string; readonly options: string }
  | { readonly kind: 'exec'; readonly path: string }

export interface StageRequest {
  readonly modulesDir: string
  readonly agentFile: string
  readonly goal: StageGoal
  /** Folder for the tree of the stage; must not exist. */
  readonly folder: string
  readonly outputFile: string
  readonly workDir: string
  readonly logFile: string
}

/**
 * Build the small archive that loads a distro kernel's modules and then starts the guest.
 *
 * It is packed by the initrd step, and never compressed: QEMU hands the kernel one file, in which an
 * uncompressed archive may stand before the artifact.
 */
export async function buildStage(request: StageRequest): Promise<void> {
  const root = join(request.folder, STAGE_DIR)
  mkdirSync(join(root, 'modules'), { recursive: true })
  mkdirSync(join(root, 'root'))
  await run(['install', '-m', '0755', request.agentFile, join(root, 'init')])
  const lines: string[] = []
  const { goal } = request
  const wanted = goal.kind === 'root' ? [...WANTED, goal.filesystem] : WANTED
  for (const file of moduleClosure(request.modulesDir, wanted)) {
    const name = `modules/${basename(file).replace(/\.(xz|zst|gz)$/, '')}`
    await unpackModule(file, join(root, name))
    lines.push(`module ${name}`)
  }
  lines.push(
    goal.kind === 'exec' ? `exec ${goal.path}` : `root ${goal.device} ${goal.filesystem} ${goal.options}`,
    '',
  )
  writeFileSync(join(root, 'plan'), lines.join('\n'))
  const step = join(BUNDLE_ROOT, 'initrd-builder', 'initrd.js')
  await run([process.execPath, step, '-p', '-o', request.outputFile, request.folder], {
    logFile: request.logFile,
    env: { INITRD_COMPRESSION: 'none', WORKDIR: request.workDir, SOURCE_DATE_EPOCH: '0' },
  })
}

/**
 * Files of the wanted modules and of all they depend on, dependencies first.
 *
 * Read from the modules themselves (`.modinfo`), because a package holds no modules.dep: depmod makes
 * that when the package is installed.
 */
export function moduleClosure(modulesDir: string, wanted: readonly string[]): string[] {
  const files = new Map(moduleFiles(modulesDir).map((file) => [moduleName(file), file]))
  const ordered: string[] = []
  const seen = new Set<string>()
  const visit = (name: string): void => {
    if (seen.has(name)) return
    seen.add(name)
    const file = files.get(name)
    if (file === undefined) return
    for (const needed of dependenciesOf(modulesDir, file)) visit(needed)
    ordered.push(file)
  }
  for (const name of wanted) visit(name)
  return ordered
}

function moduleFiles(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .sort((a, b) => compareBytes(a.name, b.name))
    .flatMap((entry) => {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) return moduleFiles(path)
      return /\.ko(\.(xz|zst|gz))?$/.test(entry.name) ? [path] : []
    })
}

function moduleName(file: string): string {
  return basename(file)
    .replace(/\.ko(\.\w+)?$/, '')
    .replaceAll('-', '_')
}

function dependenciesOf(modulesDir: string, file: string): string[] {
  const known = join(modulesDir, 'modules.dep')
  if (existsSync(known)) {
    const line = readFileSync(known, 'utf8')
      .split('\n')
      .find((row) => row.startsWith(`${relative(modulesDir, file)}:`))
    return (line?.split(':')[1] ?? '')
      .trim()
      .split(/\s+/)
      .filter((path) => path !== '')
      .reverse()
      .map(moduleName)
  }
  if (!file.endsWith('.ko')) {
    throw new BuildError('E_INPUT', `${file}: is compressed, and the folder has no modules.dep`, {
      hint: `depmod --basedir ${join(modulesDir, '..', '..', '..')} ${basename(modulesDir)}`,
    })
  }
  const text = readFileSync(file, 'latin1')
  const fields = [...text.matchAll(/\0(?:depends=|softdep=pre: ?)([^\0]*)/g)].map((match) =>
    String(match[1]).replace(/\bpost:.*/, ''),
  )
  return fields
    .flatMap((field) => field.split(/[,\s]+/))
    .filter((name) => name !== '')
    .map((name) => name.replaceAll('-', '_'))
}

async function unpackModule(file: string, target: string): Promise<void> {
  const unpackers: Readonly<Record<string, string>> = { xz: 'xz', zst: 'zstd', gz: 'gzip' }
  const tool = unpackers[file.split('.').at(-1) ?? '']
  if (tool === undefined) await run(['cp', '--', file, target])
  else await run([tool, '-d', '-c', file], { stdoutFile: target })
}
