// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'

import { sha256, sha256File } from '../../scripts/digest.ts'
import { HOST_TOOLS } from '../../scripts/host-tools.ts'
import { findTool } from '../../scripts/run.ts'
import { readTree } from '../../scripts/tree.ts'
import { PROJECT } from './user.ts'

/** Name of the base image: nothing can be pulled in a test, so it is made of packages and imported. */
export const BASE = 'localhost/osbuilder-test-base:bookworm'

/** A file that only the base image has. */
export const MARKER = '/usr/share/osbuilder-test-base'

/** A place with mounts of its own, in which a command is started by what `enter` begins with. */
export interface Room {
  readonly enter: readonly string[]
  /** Process whose place it is. */
  readonly pid: number
  readonly close: () => Promise<void>
}

/**
 * A view of this host with mounts of its own, which go when it is closed.
 *
 * @param lines bash that prepares it; `$1` and on are `words`
 * @param within what the view is made in, such as a network namespace
 */
export async function openRoom(
  lines: string,
  words: readonly string[],
  within: readonly string[] = [],
): Promise<Room> {
  const script = `${lines}\necho ready; exec sleep infinity`
  const argv = [
    ...within,
    ...['unshare', '--mount', '--propagation', 'private', 'setpriv', '--pdeathsig', 'KILL'],
    ...['bash', '--norc', '-euc', script, 'bash', ...words],
  ]
  const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] })
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => {
      resolve()
    })
    child.once('exit', () => {
      reject(new Error('the room could not be made'))
    })
  })
  const { pid } = child
  if (pid === undefined) throw new Error('unshare does not start')
  const spaces = ['mnt', 'net'].map(
    (name) => `--${name === 'mnt' ? 'mount' : name}=/proc/${String(pid)}/ns/${name}`,
  )
  // It forgets where it was started.
  const enter = ['nsenter', ...spaces, '--', 'env', '--chdir', PROJECT]
  return { enter, pid, close: () => endOf(child, 'SIGKILL') }
}

/** Lines for openRoom that put the file `$1` in the place of every other word. */
export const TRAPS = 'for tool in "${@:2}"; do mount --bind "$1" "$tool"; done'

/** Packages that the caller of an engine works with himself. */
const CALLERS_OWN = new Set(['util-linux', 'uidmap', 'tar'])

/** Words for TRAPS: a program that fails and says so, and every tool of this host that only a builder needs. */
export function traps(scratch: string): string[] {
  const trap = join(scratch, 'trap')
  writeFileSync(trap, '#!/bin/sh\necho "a tool of the host was used: $0 $*" >&2\nexit 99\n', { mode: 0o755 })
  const tools = HOST_TOOLS.filter(
    ({ targets, packages }) =>
      (['rootfs', 'image', 'initrd', 'dnf'] as const).some((target) => targets.includes(target)) &&
      !CALLERS_OWN.has(packages.apt ?? ''),
  ).flatMap(({ tool }) => findTool(tool) ?? [])
  const real = [...new Set(tools.map((tool) => realpathSync(tool)))]
  // The one that puts them there is the last.
  return [
    trap,
    ...real.filter((tool) => !tool.endsWith('/mount')),
    ...real.filter((tool) => tool.endsWith('/mount')),
  ]
}

/** End a process of the test's own, and wait for that. */
export async function endOf(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const closed = new Promise((resolve) => child.once('exit', resolve))
  child.kill(signal)
  await closed
}

export interface Dockerd {
  /** For DOCKER_HOST. */
  readonly host: string
  readonly child: ChildProcess
  /** Ask it something by docker's own command. */
  readonly ask: (...words: string[]) => string
}

/**
 * An engine of the test's own: without bridge and firewall rules, which a test has no business to make.
 *
 * @param folder its files; made when it is not there
 */
export async function startDockerd(
  folder: string,
  options: {
    readonly within?: readonly string[]
    readonly tcp?: string
    readonly flags?: readonly string[]
  } = {},
): Promise<Dockerd> {
  mkdirSync(folder, { recursive: true })
  const unix = `unix://${folder}/docker.sock`
  const host = options.tcp ?? unix
  const places = [`--data-root=${folder}/data`, `--exec-root=${folder}/exec`, `--pidfile=${folder}/pid`]
  const argv = [
    ...(options.within ?? []),
    // It ends with the test, however that ends.
    ...['setpriv', '--pdeathsig', 'TERM', 'dockerd', '--iptables=false', '--bridge=none', ...places],
    ...new Set([unix, host].map((url) => `--host=${url}`)),
    ...(options.tcp === undefined ? [] : ['--tls=false']),
    ...(options.flags ?? []),
  ]
  // One that was killed has left these, and their numbers may be others' by now.
  for (const pid of ['pid', 'exec/containerd/containerd.pid']) rmSync(join(folder, pid), { force: true })
  const log = join(folder, 'dockerd.log')
  const output = openSync(log, 'a')
  const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['ignore', output, output] })
  closeSync(output)
  for (let attempt = 0; attempt < 150; attempt += 1) {
    if (spawnSync('docker', ['-H', unix, 'version']).status === 0) {
      const ask = (...words: string[]): string =>
        execFileSync('docker', ['-H', unix, ...words], { encoding: 'utf8' }).trim()
      return { host, child, ask }
    }
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  throw new Error(`dockerd does not answer: ${readFileSync(log, 'utf8').slice(-2000)}`)
}

/** What is kept for a day, for all tests with engines. */
const KEPT = join(PROJECT, 'workdir', 'test-base')

/** A tar of a minimal Debian with MARKER in it. */
export function baseTar(): string {
  const mirror = process.env['TEST_MIRROR'] ?? 'http://deb.debian.org/debian'
  const folder = KEPT
  const tar = join(
    folder,
    `bookworm-${sha256(mirror).slice(0, 8)}-${new Date().toISOString().slice(0, 10)}.tar`,
  )
  if (existsSync(tar)) return tar
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const hook = `--customize-hook=touch "$1${MARKER}"`
  execFileSync('mmdebstrap', [
    '--quiet',
    '--variant=apt',
    hook,
    'bookworm',
    tar,
    `deb ${mirror} bookworm main`,
  ])
  return tar
}

/** Names of the builder images of an engine. */
export function builders(docker: Dockerd): string[] {
  const said = docker.ask('images', '--format', '{{.Repository}}:{{.Tag}}', 'osbuilder-builder')
  return said.split('\n').filter((name) => name !== '')
}

/**
 * A tar of the builder image that an engine has made: it has the same name wherever it has the same
 * content, so another engine need not make it again.
 */
export function builderTar(docker: Dockerd): string {
  const [name = ''] = builders(docker)
  const tar = join(KEPT, `${name.replace(':', '-')}.tar`)
  if (existsSync(tar)) return tar
  for (const old of readdirSync(KEPT)) if (old.startsWith('osbuilder-builder-')) rmSync(join(KEPT, old))
  docker.ask('save', '--output', `${tar}.part`, name)
  // A user's engine reads it too.
  chmodSync(`${tar}.part`, 0o644)
  renameSync(`${tar}.part`, tar)
  return tar
}

/** Give an engine the builder that a test before this one has kept; what is out of date it does not use. */
export function loadBuilder(docker: Dockerd): void {
  if (!existsSync(KEPT)) return
  for (const tar of readdirSync(KEPT).filter((name) => /^osbuilder-builder-.*\.tar$/.test(name))) {
    docker.ask('load', '--quiet', '--input', join(KEPT, tar))
  }
}

/** A storage.conf for a podman of the test's own, for CONTAINERS_STORAGE_CONF. */
export function podmanStorage(folder: string): string {
  mkdirSync(folder, { recursive: true })
  const file = join(folder, 'storage.conf')
  const places = `graphroot = "${folder}/root"\nrunroot = "${folder}/run"\n`
  writeFileSync(file, `[storage]\ndriver = "overlay"\n${places}`)
  return file
}

/** What an id of this host is to the user who owns a tree. */
export type IdMap = (id: number) => number

/** Digest of a tree by what a packer sees of it. */
export function contentDigest(folder: string, idOf: IdMap = (id) => id): string {
  const rows = readTree(folder).map(({ path, mode, uid, gid, mtimeSeconds, linkTarget, source }) => {
    const digest = typeof source === 'string' && sha256File(source)
    return [path, mode, idOf(uid), idOf(gid), mtimeSeconds, linkTarget, digest].join('\t')
  })
  return sha256(rows.join('\n'))
}

/** Digests of rootfs, image and initrd of a WORKDIR, short enough for a table. */
export function digestsOf(workdir: string, distro: string, idOf?: IdMap): string[] {
  const files = ['kata-containers.img', 'kata-containers-initrd.img'].map((name) => join(workdir, name))
  const digests = [
    contentDigest(join(workdir, `${distro}_rootfs`), idOf),
    ...files.map((file) => (existsSync(file) ? sha256File(file) : 'none')),
  ]
  return digests.map((digest) => digest.slice(0, 12))
}

/** Wait until something is so; at most half a minute. */
export async function until(isSo: () => boolean): Promise<void> {
  for (let attempt = 0; attempt < 150 && !isSo(); attempt += 1) {
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}

/** What is half-made below a folder. */
export function halfMade(folder: string): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.includes('.tmp-'))
}

/** Undo what engines leave mounted below a folder when they end, and remove it. */
export function removeScratch(scratch: string): void {
  const mounted = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
  for (const path of mounted.filter((mount) => mount.startsWith(`${scratch}/`))) spawnSync('umount', [path])
  rmSync(scratch, { recursive: true, force: true })
}
