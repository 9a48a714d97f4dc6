// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import type { ChildProcess, SpawnOptionsWithStdioTuple } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { Test } from 'tap'

import { openWorkspace } from '../../scripts/workspace.ts'

/** The project as the tests run it. */
export const PROJECT = join(import.meta.dirname, '..', '..', '..')

type Variables = Readonly<Record<string, string>>

export interface Ended {
  readonly status: number
  readonly stdout: string
  /** stdout and then stderr, as one text. */
  readonly said: string
}

// A make around the tests, the tester's shell or lock must not tell these builds what to do.
const BARE = {
  PATH: process.env['PATH'] ?? '',
  HOME: process.env['HOME'] ?? '/root',
  LOCK_FILE: '/dev/null',
}

/** Run `make` as a user would, with these variables on its command line. */
export function make(target: string, variables: Variables): Ended {
  const words = Object.entries(variables).map(([name, value]) => `${name}=${value}`)
  const { status, stdout, stderr } = spawnSync('make', [...words, target], {
    cwd: PROJECT,
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    env: BARE,
  })
  return { status: status ?? 1, stdout, said: `${stdout}${stderr}` }
}

/** As make, while the test's own server answers; behind a command that starts it when one is given. */
export function makeAsync(
  target: string,
  variables: Variables,
  within: readonly string[] = [],
): Promise<Ended> {
  const words = Object.entries(variables).map(([name, value]) => `${name}=${value}`)
  const [tool = 'make', ...rest] = [...within, 'make', ...words, target]
  return ended(spawn(tool, rest, { cwd: PROJECT, stdio: ['ignore', 'pipe', 'pipe'], env: BARE }))
}

/** Steps by their short names. */
const STEPS = {
  rootfs: 'bundle/rootfs-builder/rootfs.js',
  image: 'bundle/image-builder/image.js',
  initrd: 'bundle/initrd-builder/initrd.js',
  boot: 'scripts/boot/boot.js',
  clean: 'scripts/clean.js',
  setup: 'scripts/setup.js',
  help: 'scripts/help.js',
  install: 'scripts/install-scripts.js',
} as const

export type StepName = keyof typeof STEPS

/** Start a step by hand, with these variables in its environment, behind a command when one is given. */
export function startStep(
  name: StepName,
  variables: Variables,
  flags: readonly string[] = [],
  within: readonly string[] = [],
): ChildProcess {
  const script = join(PROJECT, 'build', STEPS[name])
  const [tool = '', ...rest] = [...within, process.execPath, script, ...flags]
  return spawn(tool, rest, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...BARE, ...variables },
  })
}

/** Run a step by hand to its end. The test's own server answers meanwhile. */
export function step(name: StepName, variables: Variables, flags: readonly string[] = []): Promise<Ended> {
  return ended(startStep(name, variables, flags))
}

/** Wait for a process and collect what it says. */
export function ended(child: ChildProcess): Promise<Ended> {
  let stdout = ''
  let stderr = ''
  child.stdout?.on('data', (chunk: Buffer) => {
    stdout += chunk.toString()
  })
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
  })
  return new Promise((resolve) => {
    child.on('close', (status) => {
      resolve({ status: status ?? 1, stdout, said: `${stdout}${stderr}` })
    })
  })
}

/** What shells, make, apt and dnf may each stumble over in a path. */
export const ODD_NAME = `it's "x", y`

/** Folders of one test file, which go when it ends. */
export interface Scratch {
  readonly scratch: string
  /** Settings of a build that finds nothing another has fetched, in a folder with an odd name. */
  readonly fresh: () => { readonly WORKDIR: string }
}

/** Make the folders of a test file. */
export function openScratch(t: Pick<Test, 'teardown'>): Scratch {
  const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
  t.teardown(() => {
    rmSync(scratch, { recursive: true, force: true })
  })
  let folders = 0
  return {
    scratch,
    fresh: () => {
      folders += 1
      return { WORKDIR: join(scratch, `${String(folders)} ${ODD_NAME}`) }
    },
  }
}

/** Half-made things that are still there, at any depth outside of the rootfs. */
export function leftovers(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name.includes('.tmp-')) return [entry.name]
    return entry.isDirectory() && !entry.name.endsWith('_rootfs') ? leftovers(join(folder, entry.name)) : []
  })
}

const NO_FOLDERS = { CACHE_DIR: '', ROOTFS_BUILD_DEST: '', IMAGES_BUILD_DEST: '' }

/** The folder in which guests are built and booted, whose cache others share for its kernel. */
export const BOOT_WORKDIR = join(PROJECT, 'workdir', 'test-boot')

/** As BOOT_WORKDIR, for guests of aarch64: to install one takes minutes. */
export const FOREIGN_WORKDIR = join(PROJECT, 'workdir', 'test-aarch64')

/** Settings of every guest that is built and booted there. */
export const BOOT_SETTINGS = {
  WORKDIR: BOOT_WORKDIR,
  SOURCE_DATE_EPOCH: '1795000000',
  INITRD_COMPRESSION: 'zstd',
  BOOT_TIMEOUT: '300',
  REFRESH: 'always',
} as const

/** Cache of such a folder, for tests that build elsewhere: trees of packages and the kernel of a distro are made once. */
export function bootCache(workdir: string = BOOT_WORKDIR): string {
  return openWorkspace({ ...NO_FOLDERS, WORKDIR: workdir }).cacheDir
}

/** A user of this machine with subordinate ids, made when there is none. */
export const NORMAL_USER = 'osbuilder-test'

/**
 * Copy the project into a folder of a normal user's, and return how that user runs a step there,
 * behind a command that root starts it with when one is given.
 *
 * `home` and all in it becomes the user's. Only root can do this.
 */
export function asNormalUser(
  home: string,
  variables: Variables,
): (name: StepName, within?: readonly string[]) => Ended {
  const argv = argvOfNormalUser(home, variables)
  return (name, within = []) => {
    const [tool = '', ...rest] = [...within, ...argv(name)]
    const { status, stdout, stderr } = spawnSync(tool, rest, { encoding: 'utf8', ...OF_NORMAL_USER })
    return { status: status ?? 1, stdout, said: `${stdout}${stderr}` }
  }
}

/** As asNormalUser, while the test's own server answers. */
export function asNormalUserAsync(
  home: string,
  variables: Variables,
): (name: StepName, within?: readonly string[]) => Promise<Ended> {
  const argv = argvOfNormalUser(home, variables)
  return (name, within = []) => {
    const [tool = '', ...rest] = [...within, ...argv(name)]
    return ended(spawn(tool, rest, OF_NORMAL_USER))
  }
}

/** Where and how a step of the normal user's is started: what make exported for this test run is not the user's. */
const OF_NORMAL_USER: SpawnOptionsWithStdioTuple<'ignore', 'pipe', 'pipe'> = {
  cwd: '/',
  env: { PATH: process.env['PATH'] },
  stdio: ['ignore', 'pipe', 'pipe'],
}

function argvOfNormalUser(home: string, variables: Variables): (name: StepName) => string[] {
  if (spawnSync('id', [NORMAL_USER]).status !== 0) execFileSync('useradd', ['--no-create-home', NORMAL_USER])
  for (const [file, option] of [
    ['/etc/subuid', '--add-subuids'],
    ['/etc/subgid', '--add-subgids'],
  ] as const) {
    const has = existsSync(file) && readFileSync(file, 'utf8').includes(`${NORMAL_USER}:`)
    if (!has) execFileSync('usermod', [option, '500000-565535', NORMAL_USER])
  }
  const copy = join(home, 'project')
  mkdirSync(copy, { recursive: true })
  for (const name of [
    'build',
    'node_modules',
    'package.json',
    'package-lock.json',
    'rootfs-builder',
    'dracut',
  ]) {
    cpSync(join(PROJECT, name), join(copy, name), { recursive: true })
  }
  const script = join(home, 'run')
  const lines = Object.entries({ ...variables, HOME: home }).map(
    ([name, value]) => `export ${name}='${value}'`,
  )
  writeFileSync(script, ['set -eu', ...lines, `exec node '${copy}'/build/"$1"`, ''].join('\n'))
  execFileSync('chown', ['-R', NORMAL_USER, home])
  const ids = ['--reuid', NORMAL_USER, '--regid', NORMAL_USER, '--init-groups']
  return (name) => ['setpriv', ...ids, 'bash', '--norc', script, STEPS[name]]
}
