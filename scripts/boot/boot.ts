// SPDX-License-Identifier: Apache-2.0
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, join, resolve } from 'node:path'

import { ARCHES, ARCH_NAMES } from '../arch.ts'
import type { ArchName } from '../arch.ts'
import { BuildError } from '../errors.ts'
import { report, seconds, warn } from '../log.ts'
import { readManifest } from '../manifest.ts'
import type { Manifest } from '../manifest.ts'
import { lastLines } from '../command-error.ts'
import { requireTools, run, startBackground } from '../run.ts'
import { guestWords, hostArch, readSettings } from '../settings.ts'
import type { Settings } from '../settings.ts'
import { runStep } from '../step.ts'
import type { StepArguments } from '../step.ts'
import { discard, temporaryFor } from '../temporary.ts'
import { openWorkspace, removeLeftovers } from '../workspace.ts'
import type { Workspace } from '../workspace.ts'
import { chooseAccelerator } from './accelerator.ts'
import { connectAgent } from './agent-client.ts'
import type { AgentClient } from './agent-client.ts'
import { findKernel } from './kernel.ts'
import type { BootKernel } from './kernel.ts'
import { qemuArgv, qemuTool } from './qemu.ts'
import type { QemuRequest } from './qemu.ts'
import { checkReads, imageRoot } from './root.ts'
import type { ImageRoot } from './root.ts'
import { STAGE_DIR, buildStage } from './stage.ts'
import type { StageGoal } from './stage.ts'
import { halted, rejectAfter, sleep } from './waiting.ts'

const USAGE = `
Boot an image or an initrd in QEMU and ask the guest's agent whether it is ready.

  boot.js [-i] [FILE]

  -h       show this help
  -i       interactive: a shell on the guest's console; leave it with exit

FILE is what to boot (default: BOOT, the newest of image and initrd in IMAGES_BUILD_DEST).
Every other setting comes from the environment; "make help" lists them.
`

/** How long a guest that was asked to power off may take. */
const POWEROFF_MS = 30_000

/** Lines of the console that a failed boot shows. */
const CONSOLE_LINES = 20

await runStep({ name: 'boot', usage: USAGE, switches: ['i'], needsOwners: false, main })

interface Artifact {
  readonly file: string
  readonly kind: 'image' | 'initrd'
  readonly manifest: Manifest | undefined
}

async function main(given: StepArguments): Promise<void> {
  const settings = readSettings({}, [checkMachine])
  const workspace = openWorkspace(settings)
  removeLeftovers(workspace)
  const artifact = findArtifact(settings, workspace, given.positional[0])
  const guest = guestOf(artifact, settings)
  requireTools([qemuTool(guest.arch)])
  const root = artifact.kind === 'image' ? imageRoot(artifact.manifest, settings.BOOT_DISK) : undefined
  const kernel = await findKernel(settings, workspace, { ...guest, isMeasured: root?.isMeasured === true })
  if (root !== undefined) checkReads(kernel, root, basename(artifact.file))
  const folder = temporaryFor(join(workspace.workDir, 'boot'))
  mkdirSync(folder)
  try {
    const prepared = await prepare({
      settings,
      workspace,
      artifact,
      root,
      kernel,
      folder,
      arch: guest.arch,
      interactive: given.has('i'),
    })
    if (given.has('i')) await interact(prepared, folder)
    else await prove(settings, prepared, { artifact, folder, workspace })
  } finally {
    discard(folder)
  }
}

/** The small machine has no slots for memory, and is there for one architecture. */
function checkMachine({ BOOT_MACHINE: machine, BOOT_DISK: disk, ARCH: arch }: Settings): string[] {
  if (machine !== 'microvm') return []
  const asked = arch === 'host' ? hostArch() : arch
  return [
    ...(asked === 'x86_64' ? [] : [`BOOT_MACHINE=microvm: is a machine of x86_64, not of ${asked}`]),
    ...(disk === 'nvdimm' ? ['BOOT_DISK=nvdimm: BOOT_MACHINE=microvm has none; leave out one of them'] : []),
  ]
}

/** @throws BuildError E_INPUT when there is nothing to boot */
function findArtifact(settings: Settings, workspace: Workspace, given: string | undefined): Artifact {
  const places = { image: 'kata-containers.img', initrd: 'kata-containers-initrd.img' } as const
  const candidates: Artifact[] = []
  if (given !== undefined) {
    const file = resolve(given)
    if (!existsSync(file))
      throw new BuildError('E_INPUT', `${file}: no such file`, { hint: 'make image    builds one' })
    const manifest = readManifest(file)
    const asked = settings.BOOT === 'newest' ? guessKind(file) : settings.BOOT
    const told = manifest?.kind
    return { file, kind: told === 'image' || told === 'initrd' ? told : asked, manifest }
  }
  for (const kind of ['image', 'initrd'] as const) {
    const file = join(workspace.imagesDest, places[kind])
    if ((settings.BOOT === 'newest' || settings.BOOT === kind) && existsSync(file)) {
      candidates.push({ file, kind, manifest: readManifest(file) })
    }
  }
  const newest = candidates.sort((a, b) => statSync(b.file).mtimeMs - statSync(a.file).mtimeMs)[0]
  if (newest !== undefined) return newest
  throw new BuildError(
    'E_INPUT',
    `${workspace.imagesDest}: no ${settings.BOOT === 'newest' ? 'image or initrd' : settings.BOOT} to boot`,
    {
      hint: `make ${guestWords(settings)} ${settings.BOOT === 'initrd' ? 'initrd' : 'image'}    builds one`,
    },
  )
}

/** A disk begins with a partition table; an archive, compressed or not, never has its mark there. */
function guessKind(file: string): 'image' | 'initrd' {
  const head = readFileSync(file).subarray(0, 512)
  return head.length === 512 && head.readUInt16LE(510) === 0xaa55 ? 'image' : 'initrd'
}

interface GuestFacts {
  readonly distro: string
  readonly release: string
  readonly arch: ArchName
}

/** What the artifact's manifest tells of its guest; the settings where it has none. */
function guestOf({ manifest }: Artifact, settings: Settings): GuestFacts {
  const rootfs = manifest?.result['rootfs']
  const inputs = isRecord(rootfs) && isRecord(rootfs['inputs']) ? rootfs['inputs'] : {}
  const word = (name: string): string => (typeof inputs[name] === 'string' ? inputs[name] : '')
  const asked = settings.ARCH === 'host' ? hostArch() : settings.ARCH
  return {
    distro: word('distro'),
    release: word('release'),
    arch: ARCH_NAMES.find((name) => name === word('arch')) ?? asked,
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

interface Preparation {
  readonly settings: Settings
  readonly workspace: Workspace
  readonly artifact: Artifact
  /** The root of an image. */
  readonly root: ImageRoot | undefined
  readonly kernel: BootKernel
  readonly folder: string
  readonly arch: ArchName
  readonly interactive: boolean
}

/** Decide how QEMU is started, making the stage that a distro kernel needs. */
async function prepare(of: Preparation): Promise<QemuRequest> {
  const { settings, artifact, root, kernel, folder, arch, interactive } = of
  const initrd =
    kernel.modulesDir === undefined ? plainInitrd(artifact) : await stagedInitrd(of, kernel.modulesDir)
  const words = [
    `console=${ARCHES[arch].console}`,
    // A guest that dies ends QEMU instead of hanging.
    'panic=-1',
    interactive || settings.DEBUG ? 'loglevel=4' : 'quiet',
    ...(kernel.modulesDir === undefined ? [] : [`rdinit=/${STAGE_DIR}/init`]),
    ...(root?.words ?? []),
    ...(interactive ? ['osbuilder.shell'] : []),
    ...(artifact.kind === 'image' ? ['systemd.unit=kata-containers.target'] : []),
    settings.KERNEL_CMDLINE,
  ]
  return {
    arch,
    accelerator: chooseAccelerator(arch),
    machine: settings.BOOT_MACHINE,
    memoryMiB: settings.BOOT_MEMORY ?? 1024,
    kernel: kernel.file,
    ...(initrd === undefined ? {} : { initrd }),
    commandLine: words.filter((word) => word !== '').join(' '),
    ...(artifact.kind === 'image'
      ? { disk: { file: artifact.file, sizeBytes: statSync(artifact.file).size, bus: settings.BOOT_DISK } }
      : {}),
    // Relative: the length of a socket's path is limited, that of WORKDIR is not.
    agentSocket: 'agent.sock',
    console: interactive ? 'terminal' : { file: join(folder, 'console.log') },
  }
}

function plainInitrd({ kind, file }: Artifact): string | undefined {
  return kind === 'initrd' ? file : undefined
}

/** The stage alone for an image; the stage and then the artifact, in one file, for an initrd. */
async function stagedInitrd(of: Preparation, modulesDir: string): Promise<string> {
  const { workspace, artifact, root, folder, arch } = of
  const { bundledAgent } = await import('../../rootfs-builder/agent/build.ts')
  const { file: agentFile } = await (await bundledAgent(arch, workspace.cacheDir)).program
  const goal: StageGoal =
    root === undefined
      ? { kind: 'exec', path: '/init' }
      : { kind: 'root', device: root.device, filesystem: root.filesystem, options: 'ro' }
  const outputFile = join(folder, 'stage.img')
  const stage = join(folder, 'stage')
  const logFile = join(workspace.logDir, 'boot-stage.log')
  writeFileSync(logFile, '')
  await buildStage({
    modulesDir,
    agentFile,
    goal,
    folder: stage,
    outputFile,
    workDir: join(folder, 'work'),
    logFile,
  })
  if (artifact.kind === 'image') return outputFile
  const joined = join(folder, 'initrd.img')
  copyFileSync(outputFile, joined)
  await run(
    ['dd', 'status=none', `if=${artifact.file}`, `of=${joined}`, 'oflag=append', 'conv=notrunc', 'bs=1M'],
    { logFile },
  )
  return joined
}

interface Scene {
  readonly artifact: Artifact
  readonly folder: string
  readonly workspace: Workspace
}

/** Boot, ask the agent, run a command in the guest, power off; report or explain. */
async function prove(
  settings: Settings,
  request: QemuRequest,
  { artifact, folder, workspace }: Scene,
): Promise<void> {
  const logFile = join(folder, 'qemu.log')
  const consoleFile = join(folder, 'console.log')
  writeFileSync(logFile, '')
  const startMs = Date.now()
  const qemu = await startBackground(qemuArgv(request), { cwd: folder, logFile })
  const timeoutMs = (settings.BOOT_TIMEOUT ?? 120) * 1000
  const descriptor = openSync(folder, 'r')
  const late = rejectAfter(timeoutMs, `the agent was not ready after ${String(timeoutMs / 1000)} s`)
  const over = new AbortController()
  try {
    void qemu.exit.then(() => {
      over.abort()
    })
    const ended = qemu.exit.then((status) => {
      throw new BuildError('E_BOOT', `QEMU ended with status ${String(status)} before the agent was ready`)
    })
    // The folder by its descriptor: a path that is short, however deep WORKDIR lies.
    const socket = `/proc/${String(process.pid)}/fd/${String(descriptor)}/agent.sock`
    const talk = connectAgent(socket, timeoutMs, over.signal).then(async (agent) => {
      const ready = await agent.ask('ready')
      const readyMs = Date.now() - startMs
      const facts = await askFacts(agent)
      if (settings.BOOT_COMMAND !== '') await runInGuest(agent, settings.BOOT_COMMAND)
      await agent.ask('poweroff')
      agent.close()
      return { readyMs, facts, ready: ready.text }
    })
    const { readyMs, facts, ready } = await Promise.race([talk, ended, late.promise])
    const cleanEnd = await Promise.race([
      qemu.exit.then(() => true),
      halted(consoleFile, over.signal),
      sleep(POWEROFF_MS).then(() => false),
    ])
    if (!cleanEnd) warn('the guest did not power off when it was asked to')
    const init = /^init=(.*)$/m.exec(ready)?.[1] ?? ''
    report('BOOT', `${artifact.kind} ${basename(artifact.file)}`, facts.kernel, facts.os)
    report('BOOT', `PID 1 is ${facts.pid1} (${init})`, `${facts.usedMiB} of ${facts.totalMiB} MiB in use`)
    report('BOOT', `agent ready in ${seconds(readyMs)} (${request.accelerator.toUpperCase()})`)
  } catch (error) {
    throw explain(error, { consoleFile, logFile, workspace, artifact })
  } finally {
    // Nothing that waits may keep this process after the guest.
    late.cancel()
    over.abort()
    qemu.kill()
    await qemu.exit
    closeSync(descriptor)
  }
}

/** @throws BuildError E_BOOT with what the command said when its status is not 0 */
async function runInGuest(agent: AgentClient, command: string): Promise<void> {
  const { status, text } = await agent.ask('run', ['/bin/sh', '-c', command, ''].join('\0'))
  if (status !== 0) {
    throw new BuildError(
      'E_BOOT',
      `BOOT_COMMAND ended with status ${String(status)} in the guest: ${text.trim()}`,
    )
  }
  process.stdout.write(text === '' || text.endsWith('\n') ? text : `${text}\n`)
}

interface GuestReport {
  readonly kernel: string
  readonly os: string
  readonly pid1: string
  readonly usedMiB: string
  readonly totalMiB: string
}

async function askFacts(agent: AgentClient): Promise<GuestReport> {
  const uname = await agent.ask('run', ['uname', '-sr', ''].join('\0'))
  const release = (await agent.ask('read', '/etc/os-release')).text
  const memory = (await agent.ask('read', '/proc/meminfo')).text
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(memory)?.[1] ?? 0) / 1024
  return {
    kernel: uname.text.trim(),
    os: /^PRETTY_NAME="?(.*?)"?$/m.exec(release)?.[1] ?? 'unknown OS',
    pid1: (await agent.ask('read', '/proc/1/comm')).text.trim(),
    usedMiB: (field('MemTotal') - field('MemAvailable')).toFixed(0),
    totalMiB: field('MemTotal').toFixed(0),
  }
}

/** Say why a boot failed: what the guest printed last, and where all of it is. */
function explain(
  error: unknown,
  of: {
    readonly consoleFile: string
    readonly logFile: string
    readonly workspace: Workspace
    readonly artifact: Artifact
  },
): unknown {
  if (!(error instanceof BuildError) && !(error instanceof Error && 'code' in error)) return error
  const kept = join(of.workspace.logDir, 'boot-console.log')
  const console = existsSync(of.consoleFile) ? readFileSync(of.consoleFile, 'utf8') : ''
  writeFileSync(kept, console)
  // A guest colours its messages and moves the cursor; here only the words count.
  // eslint-disable-next-line no-control-regex -- escape sequences begin with a control character
  const words = console.replace(/\u001b\[[0-9;?]*[A-Za-z]|\u001b[c78]/g, '')
  const said = lastLines(readFileSync(of.logFile, 'utf8'), 5)
  // The agent's end of the channel goes with the guest, a moment before QEMU is seen to end.
  const message = error instanceof BuildError ? error.message : 'the guest ended before the agent was ready'
  return new BuildError('E_BOOT', `${basename(of.artifact.file)}: ${message}`, {
    because: [...said, ...lastLines(words, CONSOLE_LINES), `full console: ${kept}`],
    hint: 'make shell DEBUG=yes    boots it with a console; KERNEL= and BOOT_MEMORY= change how',
    cause: error,
  })
}

/** Give the terminal to the guest until it powers off. */
async function interact(request: QemuRequest, folder: string): Promise<void> {
  report('SHELL', 'console of the guest; leave it with exit or poweroff')
  const qemu = await startBackground(qemuArgv(request), { cwd: folder, terminal: true })
  await qemu.exit
}
