// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { sha256, sha256File } from '../../scripts/digest.ts'
import { readTree } from '../../scripts/tree.ts'
import { smallAlpine, startRepository } from '../mirrors/alpine.ts'
import { startMirror } from '../mirrors/apt.ts'
import { ended, makeAsync, startStep } from './user.ts'

t.setTimeout(20 * 60 * 1000)

const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
const debian = await startMirror()
const alpine = await startRepository()
await alpine.publish(await smallAlpine())
const docker = await startDockerd()
// Nothing can be pulled here, so the base image is made of packages, as one imports any tree.
const BASE = 'localhost/osbuilder-test-base:bookworm'
importBase()
t.teardown(async () => {
  docker.child.kill()
  await new Promise((resolve) => docker.child.once('close', resolve))
  await Promise.all([debian.close(), alpine.close()])
  // What the engines leave mounted when they end.
  const mounted = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
  for (const path of mounted.filter((mount) => mount.startsWith(`${scratch}/`))) spawnSync('umount', [path])
  rmSync(scratch, { recursive: true, force: true })
})

const COMMON = { SOURCE_DATE_EPOCH: '1795000000', INITRD_COMPRESSION: 'zstd', BUILDER_BASE: BASE }
const DISTROS = {
  debian: { DISTRO: 'debian', REPO_URL: debian.url },
  alpine: { DISTRO: 'alpine', REPO_URL: alpine.url, REPO_KEYRING: alpine.keyring },
} as const

/** Where it is built, by the settings that say so. */
const PLACES = {
  host: {},
  docker: { USE_DOCKER: 'true', DOCKER_HOST: docker.host },
  podman: { USE_PODMAN: 'true', DOCKER_RUNTIME: 'runc', CONTAINERS_STORAGE_CONF: podmanStorage() },
} as const
type Place = keyof typeof PLACES

for (const [distro, settings] of Object.entries(DISTROS)) {
  t.test(`${distro}: the same bytes on the host, in docker and in podman`, async (t) => {
    const rows: string[][] = []
    for (const place of Object.keys(PLACES) as Place[]) {
      const WORKDIR = join(scratch, `${distro}-${place}`)
      if (place === 'podman') loadIntoPodman()
      const built = await makeAsync('all', { ...COMMON, ...settings, ...PLACES[place], WORKDIR })
      t.equal(built.status, 0, built.said)
      const digests = [
        contentDigest(join(WORKDIR, `${distro}_rootfs`)),
        sha256File(join(WORKDIR, 'kata-containers.img')),
        sha256File(join(WORKDIR, 'kata-containers-initrd.img')),
      ]
      rows.push([place, ...digests.map((digest) => digest.slice(0, 12))])
      const names = readdirSync(WORKDIR, { recursive: true, encoding: 'utf8' })
      t.strictSame(
        names.filter((name) => name.includes('.tmp-')),
        [],
        'nothing half-made is left',
      )
    }
    for (const row of [['', 'rootfs', 'image', 'initrd'], ...rows])
      t.comment(row.map((cell) => cell.padEnd(14)).join(''))
    for (const row of rows.slice(1)) t.strictSame(row.slice(1), rows[0]?.slice(1), String(row[0]))
    const left = execFileSync('docker', ['-H', docker.host, 'ps', '--all', '--quiet'], { encoding: 'utf8' })
    t.equal(left, '', 'no container is left')
  })
}

t.test('a container that is killed half-way is told, and leaves nothing', async (t) => {
  const WORKDIR = join(scratch, 'killed')
  const building = ended(
    startStep('rootfs', { ...COMMON, ...DISTROS.debian, ...PLACES.docker, WORKDIR, EXTRA_PKGS: 'less' }),
  )
  const name = await containerName()
  await new Promise((resolve) => setTimeout(resolve, 2000))
  execFileSync('docker', ['-H', docker.host, 'kill', name])
  const { status, said } = await building
  t.equal(status, 1, said)
  t.match(said, 'the container of the step was killed')
  t.notOk(existsSync(join(WORKDIR, 'debian_rootfs')))
  const names = readdirSync(WORKDIR, { recursive: true, encoding: 'utf8' })
  t.strictSame(
    names.filter((entry) => entry.includes('.tmp-')),
    [],
  )
})

t.test('a step that is killed takes its container along', async (t) => {
  const WORKDIR = join(scratch, 'orphan')
  const child = startStep('rootfs', { ...COMMON, ...DISTROS.debian, ...PLACES.docker, WORKDIR })
  await containerName()
  child.kill('SIGKILL')
  let left = 'unknown'
  for (let attempt = 0; attempt < 60 && left !== ''; attempt += 1) {
    await new Promise((resolve) => setTimeout(resolve, 500))
    left = execFileSync('docker', ['-H', docker.host, 'ps', '--quiet'], { encoding: 'utf8' })
  }
  t.equal(left, '')
})

t.test('an engine that does not answer, or is no engine, is told with a remedy', async (t) => {
  const WORKDIR = join(scratch, 'refused')
  const settings = { ...COMMON, ...DISTROS.alpine, WORKDIR }
  const silent = await makeAsync('rootfs', { ...settings, USE_DOCKER: 'yes', DOCKER_HOST: 'unix:///nowhere' })
  t.not(silent.status, 0)
  t.match(silent.said, 'USE_DOCKER=yes: docker does not answer')
  t.match(silent.said, 'try: sudo systemctl start docker')
  const unclear = await makeAsync('rootfs', { ...settings, USE_DOCKER: 'maybe' })
  t.match(unclear.said, 'USE_DOCKER=maybe: expected yes or no')
  const base = await makeAsync('rootfs', {
    ...settings,
    ...PLACES.docker,
    BUILDER_BASE: 'localhost:1/none:x',
  })
  t.not(base.status, 0)
  t.match(base.said, 'docker cannot make the builder image')
  t.match(base.said, 'BUILDER_BASE=image')
  t.notOk(existsSync(join(WORKDIR, 'alpine_rootfs')))
})

t.test('both engines: docker is used, and says so', async (t) => {
  const both = { ...COMMON, ...DISTROS.alpine, ...PLACES.podman, ...PLACES.docker }
  const built = await makeAsync('rootfs', { ...both, WORKDIR: join(scratch, 'both') })
  t.equal(built.status, 0, built.said)
  t.match(built.said, 'USE_DOCKER and USE_PODMAN are both set: docker is used')
})

/** Digest of a tree by what a packer sees of it. */
function contentDigest(folder: string): string {
  const rows = readTree(folder).map(({ path, mode, uid, gid, mtimeSeconds, linkTarget, source }) =>
    [path, mode, uid, gid, mtimeSeconds, linkTarget, typeof source === 'string' && sha256File(source)].join(
      '\t',
    ),
  )
  return sha256(rows.join('\n'))
}

/** Name of the container that runs, once there is one. */
async function containerName(): Promise<string> {
  for (let attempt = 0; attempt < 300; attempt += 1) {
    const argv = ['-H', docker.host, 'ps', '--format', '{{.Names}}']
    const [name] = execFileSync('docker', argv, { encoding: 'utf8' }).split('\n')
    if (name !== undefined && name.startsWith('osbuilder-')) return name
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  throw new Error('no container was started')
}

interface Dockerd {
  readonly host: string
  readonly child: ChildProcess
}

/** An engine of the test's own: without bridge and firewall rules, which a test has no business to make. */
async function startDockerd(): Promise<Dockerd> {
  const folder = join(scratch, 'docker')
  mkdirSync(folder)
  const host = `unix://${folder}/docker.sock`
  const places = [`--data-root=${folder}/data`, `--exec-root=${folder}/exec`, `--pidfile=${folder}/pid`]
  const child = spawn('dockerd', ['--iptables=false', '--bridge=none', ...places, `--host=${host}`], {
    stdio: 'ignore',
  })
  for (let attempt = 0; attempt < 150; attempt += 1) {
    if (spawnSync('docker', ['-H', host, 'version']).status === 0) return { host, child }
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  throw new Error('dockerd does not answer')
}

function importBase(): void {
  const mirror = process.env['TEST_MIRROR'] ?? 'http://deb.debian.org/debian'
  const tar = join(scratch, 'base.tar')
  execFileSync('mmdebstrap', ['--quiet', '--variant=apt', 'bookworm', tar, `deb ${mirror} bookworm main`])
  execFileSync('docker', ['-H', docker.host, 'import', tar, BASE], { stdio: 'ignore' })
  rmSync(tar)
}

function podmanStorage(): string {
  const folder = join(scratch, 'podman')
  mkdirSync(folder)
  const file = join(folder, 'storage.conf')
  writeFileSync(
    file,
    `[storage]\ndriver = "overlay"\ngraphroot = "${folder}/root"\nrunroot = "${folder}/run"\n`,
  )
  return file
}

let isLoaded = false

/** The builder image that docker made is podman's too: it has the same tag, which is its content's. */
function loadIntoPodman(): void {
  if (isLoaded) return
  const list = ['-H', docker.host, 'images', '--format', '{{.Repository}}:{{.Tag}}', 'osbuilder-builder']
  const [image = ''] = execFileSync('docker', list, { encoding: 'utf8' }).split('\n')
  const tar = join(scratch, 'builder.tar')
  execFileSync('docker', ['-H', docker.host, 'save', '--output', tar, image])
  execFileSync('podman', ['load', '--quiet', '--input', tar], {
    env: { ...process.env, CONTAINERS_STORAGE_CONF: PLACES.podman.CONTAINERS_STORAGE_CONF },
    stdio: 'ignore',
  })
  rmSync(tar)
  isLoaded = true
}
