// SPDX-License-Identifier: Apache-2.0
import { existsSync, lstatSync, readFileSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'

import { BuildError } from '../errors.ts'
import type { ToolTarget } from '../host-tools.ts'
import { PROJECT_ROOT } from '../paths.ts'
import { capture, startBackground } from '../run.ts'
import { PROCESS_OUTSIDE, givenSettings, hostArch } from '../settings.ts'
import type { Settings } from '../settings.ts'
import { SETTINGS } from '../settings-table.ts'
import { ownName } from '../temporary.ts'
import { openWorkspace, removeLeftovers } from '../workspace.ts'
import { builderImage } from './builder-image.ts'
import { openEngine } from './engine.ts'
import type { Engine, EngineName } from './engine.ts'

/** The steps that a container can do. */
export type ContainerStep = 'rootfs' | 'image' | 'initrd' | 'kernel'

/**
 * Capabilities of a container, of which there are no others.
 *
 * Packers read files of all owners. Who makes a rootfs writes files of all owners, runs the packages'
 * scripts in it as root, and mounts a tmpfs and /proc in namespaces of its own.
 */
const CAPABILITIES: Readonly<Record<ContainerStep, readonly string[]>> = {
  image: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER'],
  initrd: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER'],
  kernel: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER'],
  rootfs: [
    ...['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID'],
    // dpkg and apt become other users; packages set capabilities of files; a script may send signals.
    ...['SETUID', 'SETGID', 'SETFCAP', 'KILL'],
    // The tree's own /dev, chroot into it, and the mounts.
    ...['MKNOD', 'SYS_CHROOT', 'SYS_ADMIN'],
  ],
}

/**
 * Holds the step in the container to the one outside: its end, however it ends, closes our standard
 * input, and that ends the step. Files that are not part of a rootfs become the caller's.
 */
const HOLD = [
  'exec 3<&0; trap \'kill -TERM "$child"\' TERM INT',
  'shift 2; "$@" </dev/null & child=$!',
  '(cat <&3 >/dev/null; kill -TERM "$child" 2>/dev/null) & wait "$child"; status=$?',
  'exit "$status"',
].join('\n')

/** Do the step that this process was started for in a container of the engine. Returns its exit status. */
export async function runInContainer(
  name: EngineName,
  step: ContainerStep,
  settings: Settings,
  pathFlags: readonly string[],
): Promise<number> {
  const engine = await openEngine(name, settings)
  const workspace = openWorkspace(settings)
  const image = await builderImage(engine, settings, workspace, targetsOf(step, settings))
  removeLeftovers(workspace)
  const container = `osbuilder-${step}-${String(process.pid)}-${String(Date.now())}`
  const words = stepWords(pathFlags)
  const argv = [
    ...[
      ...engine.argv,
      'run',
      '--rm',
      '--interactive',
      '--name',
      container,
      '--network',
      settings.OFFLINE ? 'none' : 'host',
    ],
    ...(engine.name === 'docker' && settings.DOCKER_RUNTIME !== ''
      ? ['--runtime', settings.DOCKER_RUNTIME]
      : []),
    ...privileges(engine, step),
    ...mounts(settings, Object.values(workspace), words.paths).flatMap((mount) => ['--volume', mount]),
    ...environment(settings).flatMap(([key, value]) => ['--env', `${key}=${value}`]),
    ...['--workdir', PROJECT_ROOT, '--entrypoint', 'bash', image],
    ...['-c', HOLD, 'osbuilder', 'hold', step],
    ...[process.execPath, ...words.argv],
  ]
  const child = await startBackground(argv, { terminal: 'pipe', env: engine.env })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.endInput())
  const status = await child.exit
  const isEngineError = [125, 126, 127].includes(status)
  if (!isEngineError && status !== 137) return status
  // The engine could not start it, or somebody killed the container.
  await capture([...engine.argv, 'rm', '--force', container], { env: engine.env, acceptFailure: true })
  removeLeftovers(workspace, 'own too')
  throw new BuildError(
    'E_COMMAND',
    isEngineError ? `${name} could not run the step` : 'the container of the step was killed',
    { hint: 'run the same command again' },
  )
}

function targetsOf(step: ContainerStep, settings: Settings): ToolTarget[] {
  const arch = settings.ARCH === 'host' ? hostArch() : settings.ARCH
  const foreign: ToolTarget[] = arch === hostArch() ? [] : [`foreign-${arch}`]
  if (step === 'kernel') return ['kernel', ...foreign]
  const dracut: ToolTarget[] = settings.BUILD_METHOD === 'dracut' ? ['dracut'] : []
  // Types of filesystems that not every image needs bring tools of their own.
  const type: ToolTarget[] =
    settings.FS_TYPE === 'xfs' || settings.FS_TYPE === 'squashfs' ? [settings.FS_TYPE] : []
  return ['rootfs', 'image', 'initrd', ...dracut, ...type, ...foreign]
}

/** No privileged container: what a step needs beyond an ordinary one is named here. */
function privileges(engine: Engine, step: ContainerStep): string[] {
  const words = ['--cap-drop', 'ALL', ...CAPABILITIES[step].flatMap((name) => ['--cap-add', name])]
  // Files of the host keep their labels.
  words.push('--security-opt', 'label=disable')
  if (engine.name === 'podman') words.push(...ownLimits())
  if (step !== 'rootfs') return words
  // The profile of the engine forbids mounts whatever the capabilities.
  if (engine.name === 'docker') return [...words, '--security-opt', 'apparmor=unconfined']
  // A new /proc may be mounted only where nothing of the old one is hidden.
  return [...words, '--security-opt', 'unmask=ALL']
}

/** Processes are limited to what podman itself keeps when it starts a container. */
const MOST_PROCESSES = 32768

/** The caller's own limits: podman's may be above what this host grants, and then nothing starts. */
function ownLimits(): string[] {
  const table = readFileSync('/proc/self/limits', 'utf8')
  const limit = (name: string, title: string, most: number): string[] => {
    const [, soft, hard] = new RegExp(`^${title} +(\\d+) +(\\d+)`, 'm').exec(table) ?? []
    if (soft === undefined || hard === undefined) return []
    const [low, high] = [soft, hard].map((text) => String(Math.min(Number(text), most)))
    return ['--ulimit', `${name}=${String(low)}:${String(high)}`]
  }
  return [...limit('nofile', 'Max open files', Infinity), ...limit('nproc', 'Max processes', MOST_PROCESSES)]
}

interface StepWords {
  /** The step and its flags, with paths made absolute. */
  readonly argv: readonly string[]
  readonly paths: readonly string[]
}

/** Flags whose value is a path, and what is no flag, name files of the host. */
function stepWords(pathFlags: readonly string[]): StepWords {
  const [script = '', ...flags] = process.argv.slice(1)
  const paths: string[] = []
  const argv = flags.map((word, index) => {
    const isValue = pathFlags.some((flag) => flags[index - 1] === `-${flag}`)
    const isFolder = !word.startsWith('-') && existsSync(word) && !/^-/.test(flags[index - 1] ?? '')
    if (!isValue && !isFolder) return word
    const path = resolve(word)
    paths.push(existsSync(path) && lstatSync(path).isDirectory() ? path : dirname(path))
    return path
  })
  return { argv: [script, ...argv], paths }
}

/** The project to read, the folders of outputs to write, files that settings name to read: all at their own paths. */
function mounts(settings: Settings, writable: readonly string[], given: readonly string[]): string[] {
  const outputs = new Set([...writable, ...given])
  if (settings.ROOTFS_DIR !== '') outputs.add(dirname(settings.ROOTFS_DIR))
  const inputs = Object.entries(SETTINGS)
    .filter(([, row]) => row.type === 'path')
    .map(([name]) => settings[name as keyof Settings] as string)
    .filter((path) => path !== '' && isFileOrFolder(path) && !outputs.has(path))
  const isBelow = (path: string, folder: string): boolean => path !== folder && path.startsWith(`${folder}/`)
  // What is below another folder that is written comes with it.
  const written = [...outputs].filter((path) => ![...outputs].some((folder) => isBelow(path, folder)))
  const read = [...new Set([PROJECT_ROOT, process.execPath, ...inputs])].filter(
    (path) => !written.some((folder) => isBelow(path, folder)),
  )
  return [...read.map((path) => `${path}:${path}:ro`), ...written.map((path) => `${path}:${path}`)]
}

/** Devices, as the /dev/null of LOCK_FILE, are in the container already. */
function isFileOrFolder(path: string): boolean {
  const status = statSync(path, { throwIfNoEntry: false })
  return status?.isFile() === true || status?.isDirectory() === true
}

/** Every setting that was given, as it was given; inside there is no engine. */
function environment(settings: Settings): [string, string][] {
  return Object.entries({
    ...givenSettings(),
    // Their usual names are looked for where the step was started.
    ...(existsSync(settings.LOCK_FILE) ? { LOCK_FILE: settings.LOCK_FILE } : {}),
    VENDOR_DIR: settings.VENDOR_DIR,
    USE_DOCKER: 'no',
    USE_PODMAN: 'no',
    [PROCESS_OUTSIDE]: ownName(),
  })
}
