// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { dirname, isAbsolute, resolve } from 'node:path'

import type { ArchName } from '../arch.ts'
import { PROJECT_ROOT, isFileOrFolder } from '../paths.ts'
import { PROCESS_OUTSIDE, givenSettings, hostArch } from '../settings.ts'
import type { Settings } from '../settings.ts'
import { SETTINGS } from '../settings-table.ts'
import type { SettingName, SettingRow } from '../settings-table.ts'
import { sourceFolder } from '../source-rootfs.ts'
import type { Step, StepArguments } from '../step.ts'
import { ownName } from '../temporary.ts'
import type { Workspace } from '../workspace.ts'
import type { ContainerStep } from './privileges.ts'

/** A step that a container can do. */
export type MovableStep = Step & { readonly container: NonNullable<Step['container']> }

/** Groups of settings that a step reads. Who has no use for a file of the host does not get to see it. */
const GROUPS: Readonly<Record<ContainerStep, readonly SettingRow['group'][]>> = {
  rootfs: ['what', 'agent', 'rootfs'],
  image: ['image'],
  initrd: ['initrd'],
  kernel: ['kernel'],
}

/** What steps read that is no matter of one group. */
const SHARED: Readonly<Record<ContainerStep, readonly SettingName[]>> = {
  rootfs: ['LOCK_FILE', 'VENDOR_DIR'],
  image: [],
  initrd: [],
  kernel: ['LOCK_FILE', 'VENDOR_DIR'],
}

/** Folders that are written, or that other steps write. */
const OUTPUTS: readonly SettingName[] = ['ROOTFS_DIR', 'PREFIX']

/** What stands for a mirror: the steps that download read these too. */
const LOCKED: readonly SettingName[] = ['LOCK_FILE', 'VENDOR_DIR']
const DOWNLOADING: readonly ContainerStep[] = ['rootfs', 'kernel']

/** Settings that may hold a URL as well as a folder of the host. */
const MAYBE_FOLDERS = ['AGENT_REPO', 'KERNEL_REPO'] as const

/** Where a step reads and writes, as paths of the host; a container has them at the same paths. */
export interface Places {
  /** The step and its flags, with paths made absolute. */
  readonly argv: readonly string[]
  /** Files and folders that settings name. */
  readonly inputs: readonly string[]
  /** Rootfs that is packed; undefined for a step that packs none. */
  readonly source: string | undefined
  /** Folders that get what is made; CACHE_DIR is another. */
  readonly outputs: readonly string[]
  readonly cacheDir: string
}

/** The places of a step as it was called. */
export function placesOf(
  step: MovableStep,
  settings: Settings,
  workspace: Workspace,
  given: StepArguments,
): Places {
  const { step: name, pathFlags, positionalPaths } = step.container
  const { cacheDir, ...folders } = workspace
  const paths = pathFlags.flatMap((flag) => given.text(flag) ?? []).map((path) => resolve(path))
  const packs = name === 'image' || name === 'initrd'
  const [first] = given.positional
  const written = [...Object.values(folders), ...paths.map((path) => dirname(path))]
  if (name === 'rootfs' && settings.ROOTFS_DIR !== '') written.push(dirname(settings.ROOTFS_DIR))
  return {
    argv: [process.argv[1] ?? '', ...stepWords(step, given)],
    inputs: inputPaths(name, settings),
    source: packs
      ? sourceFolder(
          settings,
          workspace,
          first === undefined || !positionalPaths ? undefined : resolve(first),
        )
      : undefined,
    outputs: outermost(written),
    cacheDir,
  }
}

/** The flags of a step as it was called, with paths made absolute. */
export function stepWords(
  { valueFlags = [], switches = [], container }: MovableStep,
  given: StepArguments,
): string[] {
  const values = valueFlags.flatMap((flag) => {
    const text = given.text(flag)
    if (text === undefined) return []
    return [`-${flag}`, container.pathFlags.includes(flag) ? resolve(text) : text]
  })
  const positional = given.positional.map((word) => (container.positionalPaths ? resolve(word) : word))
  return [...values, ...switches.filter((flag) => given.has(flag)).map((flag) => `-${flag}`), ...positional]
}

/** Files and folders of the host that the settings of a step name and that are there. */
export function inputPaths(step: ContainerStep, settings: Settings): string[] {
  const rows = Object.entries(SETTINGS) as [SettingName, SettingRow][]
  const named = rows
    .filter(
      ([name, row]) =>
        row.type === 'path' &&
        (GROUPS[step].includes(row.group) || SHARED[step].includes(name)) &&
        !OUTPUTS.includes(name),
    )
    .map(([name]) => settings[name] as string)
  const maybe = MAYBE_FOLDERS.filter((name) => GROUPS[step].includes(SETTINGS[name].group))
    .map((name) => settings[name])
    .filter((text) => isAbsolute(text))
  const locked = DOWNLOADING.includes(step) ? LOCKED.map((name) => settings[name] as string) : []
  return [...new Set([...named, ...maybe, ...locked])].filter((path) => path !== '' && isFileOrFolder(path))
}

/** The folders that are below none of the others. */
export function outermost(folders: readonly string[]): string[] {
  const all = [...new Set(folders)]
  return all.filter((path) => !all.some((folder) => isBelow(path, folder)))
}

/** True when the path is inside of the folder. */
export function isBelow(path: string, folder: string): boolean {
  return path !== folder && path.startsWith(folder === '/' ? folder : `${folder}/`)
}

/**
 * Mounts for an engine that sees the caller's disk: the project and inputs to read, outputs to write, all
 * at their own paths.
 */
export function mountsOf({ inputs, source, outputs, cacheDir }: Places): string[] {
  const written = outermost([...outputs, cacheDir])
  const wanted = [PROJECT_ROOT, ...inputs, ...(source === undefined ? [] : [source])]
  const read = outermost(wanted).filter((path) => !written.some((folder) => isBelow(path, folder)))
  return [
    ...read.filter((path) => !written.includes(path)).map((path) => `${path}:${path}:ro`),
    ...written.map((path) => `${path}:${path}`),
  ]
}

/**
 * Every setting that was given, as it was given, but with paths as they are on the host; inside there is
 * no engine to ask for another container.
 *
 * @param machine architecture of the engine's machine, when it is one we know
 * @param epochSeconds the one clock, which a container without the project's history cannot find out
 */
export function environmentOf(
  settings: Settings,
  machine: ArchName | undefined,
  epochSeconds: number | undefined,
): Readonly<Record<string, string>> {
  const given = Object.entries(givenSettings())
  // Some are relative by default, and a container is started elsewhere.
  const places = (Object.entries(SETTINGS) as [SettingName, SettingRow][])
    .filter(([name, row]) => row.type === 'path' && settings[name] !== '')
    .map(([name]): [string, string] => [name, settings[name] as string])
  return {
    ...Object.fromEntries([...given, ...places]),
    // A lock that was named must be there; one that was not need not.
    ...(existsSync(settings.LOCK_FILE) || givenSettings()['LOCK_FILE'] !== undefined
      ? {}
      : { LOCK_FILE: '/dev/null' }),
    ...(epochSeconds === undefined ? {} : { SOURCE_DATE_EPOCH: String(epochSeconds) }),
    // What is the host to the caller is not to an engine on another machine.
    ...(settings.ARCH === 'host' && machine !== hostArch() ? { ARCH: hostArch() } : {}),
    USE_DOCKER: 'no',
    USE_PODMAN: 'no',
    BUILDER: '',
    [PROCESS_OUTSIDE]: ownName(),
  }
}
