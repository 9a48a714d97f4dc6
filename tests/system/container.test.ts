// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { smallAlpine, startRepository } from '../mirrors/alpine.ts'
import { startMirror } from '../mirrors/apt.ts'
import { CENTOS } from '../mirrors/rpm-distros.ts'
import { startRpmMirror } from '../mirrors/rpm.ts'
import {
  BASE,
  MARKER,
  TRAPS,
  baseTar,
  builderTar,
  digestsOf,
  endOf,
  halfMade,
  loadBuilder,
  openRoom,
  podmanStorage,
  removeScratch,
  startDockerd,
  traps,
  until,
} from './engines.ts'
import { PROJECT, ended, makeAsync, startStep } from './user.ts'

t.setTimeout(20 * 60 * 1000)

const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
const debian = await startMirror()
const alpine = await startRepository()
await alpine.publish(await smallAlpine())
// Engines and their callers live where this host's tools fail: what is built there is built by the builder's.
const full = join(scratch, 'full')
mkdirSync(full)
const centos = await startRpmMirror(CENTOS)
const room = await openRoom(`mount -t tmpfs -o size=48m tmpfs '${full}'; ${TRAPS}`, traps(scratch))
let docker = await startDockerd(join(scratch, 'docker'), { within: room.enter })
docker.ask('import', baseTar(), BASE)
loadBuilder(docker)
t.teardown(async () => {
  await endOf(docker.child)
  await Promise.all([debian.close(), alpine.close(), centos.close(), room.close()])
  removeScratch(scratch)
})

const COMMON = { SOURCE_DATE_EPOCH: '1795000000', INITRD_COMPRESSION: 'zstd', BUILDER_BASE: BASE }
const DISTROS = {
  debian: { DISTRO: 'debian', REPO_URL: debian.url },
  alpine: { DISTRO: 'alpine', REPO_URL: alpine.url, REPO_KEYRING: alpine.keyring },
  centos: { DISTRO: 'centos', REPO_URL: centos.url, REPO_KEYRING: centos.keyring },
} as const

/** Where it is built, by the settings that say so. */
const PLACES = {
  host: {},
  docker: { USE_DOCKER: 'true', DOCKER_HOST: docker.host },
  podman: {
    USE_PODMAN: 'true',
    DOCKER_RUNTIME: 'runc',
    CONTAINERS_STORAGE_CONF: podmanStorage(join(scratch, 'podman')),
  },
} as const
type Place = keyof typeof PLACES

for (const [distro, settings] of Object.entries(DISTROS)) {
  t.test(`${distro}: the same bytes on the host and in containers`, async (t) => {
    const rows: string[][] = []
    // Of the builder with dnf one engine is enough.
    const places = Object.keys(PLACES).filter((place) => distro !== 'centos' || place !== 'podman')
    for (const place of places as Place[]) {
      const WORKDIR = join(scratch, `${distro}-${place}`)
      if (place === 'podman') loadIntoPodman()
      const variables = { ...COMMON, ...settings, ...PLACES[place], WORKDIR }
      const built = await makeAsync('all', variables, place === 'host' ? [] : room.enter)
      t.equal(built.status, 0, built.said)
      rows.push([place, ...digestsOf(WORKDIR, distro)])
      t.strictSame(halfMade(WORKDIR), [], 'nothing half-made is left')
    }
    for (const row of [['', 'rootfs', 'image', 'initrd'], ...rows])
      t.comment(row.map((cell) => cell.padEnd(14)).join(''))
    for (const row of rows.slice(1)) t.strictSame(row.slice(1), rows[0]?.slice(1), String(row[0]))
    t.equal(docker.ask('ps', '--all', '--quiet'), '', 'no container is left')
  })
}

t.test('OFFLINE=yes: containers without a network build the bytes of the host', async (t) => {
  const folder = join(scratch, 'offline')
  mkdirSync(folder)
  const locked = { LOCK_FILE: join(folder, 'osbuilder.lock'), VENDOR_DIR: join(folder, 'vendor') }
  const settings = { ...COMMON, ...DISTROS.alpine, ...locked }
  const host = join(folder, 'host')
  for (const target of ['lock', 'vendor', 'all']) {
    const { status, said } = await makeAsync(target, { ...settings, WORKDIR: host })
    t.equal(status, 0, said)
  }
  const [since, asked] = [String(Date.now() / 1000), alpine.asked.length]
  const offline = (place: 'docker' | 'podman', target: string, more: Readonly<Record<string, string>>) =>
    makeAsync(target, { ...settings, ...PLACES[place], OFFLINE: 'yes', ...more }, room.enter)
  for (const place of ['docker', 'podman'] as const) {
    if (place === 'podman') loadIntoPodman()
    const WORKDIR = join(folder, place)
    const { status, said } = await offline(place, 'all', { WORKDIR })
    t.equal(status, 0, said)
    t.strictSame(digestsOf(WORKDIR, 'alpine'), digestsOf(host, 'alpine'), place)
  }
  const lost = await offline('docker', 'rootfs', { VENDOR_DIR: folder, WORKDIR: join(folder, 'lost') })
  t.equal(lost.status, 2)
  t.match(lost.said, `VENDOR_DIR=${folder}: is no folder of make vendor`)
  t.equal(lost.said.split('ERROR').length, 2, 'one error')
  t.equal(alpine.asked.length, asked, 'nobody was asked')
  const format = '{{.Action}} {{.Actor.Attributes.name}}'
  const span = ['--since', since, '--until', String(Date.now() / 1000)]
  const events = docker.ask('events', ...span, '--filter', 'type=network', '--format', format).split('\n')
  t.strictSame([...new Set(events.filter((event) => event.startsWith('connect')))], ['connect none'])
})

t.test('without a container nothing is built where the tools of the host fail', async (t) => {
  const variables = { ...COMMON, ...DISTROS.alpine, WORKDIR: join(scratch, 'trapped') }
  const { status, said } = await makeAsync('rootfs', variables, room.enter)
  t.not(status, 0)
  t.match(said, 'a tool of the host was used')
})

t.test("a container has the builder's /usr, and of this host what the step needs", async (t) => {
  const WORKDIR = join(scratch, 'mounts')
  const settings = { ...COMMON, ...DISTROS.debian, ...PLACES.docker, WORKDIR, EXTRA_PKGS: 'less' }
  const child = startStep('rootfs', settings, [], room.enter)
  const building = ended(child)
  const name = await containerName()
  t.equal(docker.ask('exec', name, 'ls', MARKER), MARKER)
  const config = JSON.parse(docker.ask('inspect', '--format', '{{json .HostConfig}}', name)) as HostConfig
  t.strictSame([...config.Binds].sort(), [`${PROJECT}:${PROJECT}:ro`, `${WORKDIR}:${WORKDIR}`].sort())
  t.equal(config.Privileged, false)
  t.strictSame(config.CapDrop, ['ALL'])
  t.notMatch(config.CapAdd.join(' '), /ALL|SYS_RAWIO|SYS_MODULE|SYS_PTRACE|NET_ADMIN|MKNOD_ALL/)
  t.strictSame(config.Devices, [])
  t.throws(() => docker.ask('exec', name, 'touch', join(PROJECT, 'x')), /Read-only file system/)
  child.kill('SIGTERM')
  await building
  t.notOk(existsSync(join(WORKDIR, 'debian_rootfs')))
  t.strictSame(halfMade(WORKDIR), [])
  t.equal(docker.ask('ps', '--all', '--quiet'), '', 'no container is left')
})

t.test('a container that is killed half-way is told, and leaves nothing', async (t) => {
  const WORKDIR = join(scratch, 'killed')
  const settings = { ...COMMON, ...DISTROS.debian, ...PLACES.docker, WORKDIR, EXTRA_PKGS: 'less' }
  const building = ended(startStep('rootfs', settings))
  const name = await containerName()
  await until(() => halfMade(WORKDIR).length > 0)
  docker.ask('kill', name)
  const { status, said } = await building
  t.equal(status, 1, said)
  t.match(said, 'the container of the step was killed')
  t.equal(said.split('ERROR').length, 2, 'one error')
  t.notOk(existsSync(join(WORKDIR, 'debian_rootfs')))
  t.strictSame(halfMade(WORKDIR), [])
  t.equal(docker.ask('ps', '--all', '--quiet'), '', 'no container is left')
})

t.test('a step that is killed takes its container along', async (t) => {
  const WORKDIR = join(scratch, 'orphan')
  const child = startStep('rootfs', { ...COMMON, ...DISTROS.debian, ...PLACES.docker, WORKDIR })
  await containerName()
  child.kill('SIGKILL')
  await until(() => docker.ask('ps', '--all', '--quiet') === '')
  t.equal(docker.ask('ps', '--all', '--quiet'), '')
  t.notOk(existsSync(join(WORKDIR, 'debian_rootfs')))
})

t.test('a disk that is full is told as that, and nothing is left', async (t) => {
  const inRoom = (...argv: string[]): string => {
    const [tool = '', ...rest] = [...room.enter, ...argv]
    return execFileSync(tool, rest, { encoding: 'utf8' })
  }
  const settings = { ...COMMON, ...DISTROS.debian, WORKDIR: join(full, 'work') }
  const { status, said } = await makeAsync('rootfs', { ...settings, ...PLACES.docker }, room.enter)
  t.not(status, 0)
  t.match(said, /no space left/)
  t.match(said, 'try: df -h')
  t.equal(said.split('ERROR').length, 2, said)
  t.equal(inRoom('find', full, '-name', '*.tmp-*', '-o', '-name', '*_rootfs'), '')
  t.equal(docker.ask('ps', '--all', '--quiet'), '', 'no container is left')
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

t.test('an engine that goes away while a step runs is told, and nothing is left', async (t) => {
  const WORKDIR = join(scratch, 'gone')
  const building = ended(startStep('rootfs', { ...COMMON, ...DISTROS.debian, ...PLACES.docker, WORKDIR }))
  await containerName()
  await until(() => halfMade(WORKDIR).length > 0)
  await endOf(docker.child, 'SIGKILL')
  const { status, said } = await building
  t.equal(status, 1, said)
  t.match(said, 'docker went away while the step ran')
  t.match(said, 'try: start the engine, then run the same command again')
  t.equal(said.split('ERROR').length, 2, 'one error')
  t.notOk(existsSync(join(WORKDIR, 'debian_rootfs')))
  await until(() => spawnSync('pgrep', ['-f', WORKDIR]).status === 1)
  t.equal(spawnSync('pgrep', ['-f', WORKDIR]).status, 1, 'and no process of the step')
  t.strictSame(halfMade(WORKDIR), [])
  docker = await startDockerd(join(scratch, 'docker'), { within: room.enter })
  await until(() => docker.ask('ps', '--all', '--quiet') === '')
  t.equal(docker.ask('ps', '--all', '--quiet'), '', 'nor a container when the engine is back')
})

interface HostConfig {
  readonly Binds: readonly string[]
  readonly CapAdd: readonly string[]
  readonly CapDrop: readonly string[]
  readonly Devices: readonly unknown[]
  readonly Privileged: boolean
}

/** Name of the container that runs, once there is one. */
async function containerName(): Promise<string> {
  for (let attempt = 0; attempt < 300; attempt += 1) {
    const [name] = docker.ask('ps', '--format', '{{.Names}}').split('\n')
    if (name !== undefined && name.startsWith('osbuilder-')) return name
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  throw new Error('no container was started')
}

let isLoaded = false

/** The builder image that docker made is podman's too: it has the same tag, which is its content's. */
function loadIntoPodman(): void {
  if (isLoaded) return
  execFileSync('podman', ['load', '--quiet', '--input', builderTar(docker)], {
    env: { ...process.env, CONTAINERS_STORAGE_CONF: PLACES.podman.CONTAINERS_STORAGE_CONF },
    stdio: 'ignore',
  })
  isLoaded = true
}
