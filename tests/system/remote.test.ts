// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

import { ownLimits } from '../../scripts/container/privileges.ts'
import { sha256File } from '../../scripts/digest.ts'
import { smallAlpine, startRepository } from '../mirrors/alpine.ts'
import { startMirror } from '../mirrors/apt.ts'
import {
  BASE,
  TRAPS,
  baseTar,
  builderTar,
  builders,
  digestsOf,
  endOf,
  halfMade,
  openRoom,
  podmanStorage,
  removeScratch,
  startDockerd,
  traps,
  until,
} from './engines.ts'
import type { Dockerd, Room } from './engines.ts'
import { PROJECT, ended, makeAsync, startStep, step } from './user.ts'

t.setTimeout(20 * 60 * 1000)

// Two machines, as far as programs can tell: networks of their own, and nothing of the caller's disk.
const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
const mine = join(scratch, 'caller')
const small = join(scratch, 'small')
for (const folder of [mine, small]) mkdirSync(folder)
/** Networks for tests of networks. Source: RFC 2544. Parallel tests have others. */
const SECOND = process.pid % 64
const HIDE = 'mount -t tmpfs tmpfs "$1"; mount -t tmpfs tmpfs "$2"; ip link set lo up'
const machines = await Promise.all([0, 1].map((number) => openMachine(number)))
const [first, second] = machines as [Machine, Machine]
const here = first.gateway
const debian = await startMirror(here)
const alpine = await startRepository(undefined, here)
await alpine.publish(await smallAlpine())
const proxy = await startProxy()
const caller = await openRoom(`mount -t tmpfs -o size=48m tmpfs '${small}'; ${TRAPS}`, traps(scratch))

const DISTROS = {
  debian: { DISTRO: 'debian', REPO_URL: debian.url },
  alpine: { DISTRO: 'alpine', REPO_URL: alpine.url, REPO_KEYRING: alpine.keyring },
} as const
const COMMON = { SOURCE_DATE_EPOCH: '1795000000', INITRD_COMPRESSION: 'zstd', BUILDER_BASE: BASE }
/** What a machine without a way out needs to get packages of Debian for its builder. */
const THROUGH = { http_proxy: proxy.url, no_proxy: [here, first.address, second.address].join() }

const podman = await startPodman(second)
first.docker.ask('import', baseTar(), BASE)
const DOCKER_CONFIG = contexts({ x86_64: first, aarch64: second })
const FARM = { USE_DOCKER: 'yes', BUILDER: 'osbuilder-{arch}', DOCKER_CONFIG } as const

t.teardown(async () => {
  await Promise.all([...machines.map(({ docker }) => endOf(docker.child)), endOf(podman.child)])
  await Promise.all([debian.close(), alpine.close(), proxy.close(), caller.close()])
  // Its end of the wire goes with a machine.
  await Promise.all(machines.map(({ room }) => room.close()))
  removeScratch(scratch)
})

t.test('debian on the engine of its architecture: the bytes of the host', async (t) => {
  const settings = { ...COMMON, ...DISTROS.debian, ARCH: 'x86_64' }
  const rows = await compare(t, 'rootfs', settings, { 'docker elsewhere': FARM })
  t.equal(builders(first.docker).length, 1, 'the first has done it')
  t.equal(builders(second.docker).length, 0, 'and the second nothing')
  t.equal(rows.length, 2)
})

t.test('a guest of another architecture goes to the other engine', async (t) => {
  second.docker.ask('load', '--quiet', '--input', builderTar(first.docker))
  const rootfs = join(mine, 'foreign')
  mkdirSync(join(rootfs, 'etc'), { recursive: true })
  appendFileSync(join(rootfs, 'etc', 'hostname'), 'guest\n')
  const settings = { ...COMMON, ARCH: 'aarch64', SKIP_ROOTFS_CHECK: 'yes' }
  const images: string[] = []
  for (const [name, place] of Object.entries({ own: {}, farm: FARM })) {
    const output = join(mine, `${name}.img`)
    const WORKDIR = join(mine, `foreign-${name}`)
    const child = startStep('image', { ...settings, ...place, WORKDIR }, ['-o', output, rootfs])
    const { status, said } = await ended(child)
    t.equal(status, 0, said)
    images.push(sha256File(output))
  }
  t.equal(images[1], images[0])
  t.match(second.docker.ask('volume', 'ls', '--quiet'), 'osbuilder-cache', 'the second has done it')
})

t.test('alpine by DOCKER_HOST and by CONTAINER_HOST', async (t) => {
  podman.load(second.docker)
  await compare(
    t,
    'all',
    { ...COMMON, ...DISTROS.alpine },
    {
      'docker elsewhere': { USE_DOCKER: 'yes', DOCKER_HOST: second.docker.host },
      'podman elsewhere': { USE_PODMAN: 'yes', CONTAINER_HOST: podman.host },
    },
  )
  t.equal(podman.ask('ps', '--all', '--quiet'), '', 'no container is left')
})

t.test('what was edited here is packed there, and is not built over', async (t) => {
  const WORKDIR = join(mine, 'alpine-docker-elsewhere')
  const place = { USE_DOCKER: 'yes', DOCKER_HOST: second.docker.host }
  const settings = { ...COMMON, ...DISTROS.alpine, WORKDIR }
  appendFileSync(join(WORKDIR, 'alpine_rootfs', 'etc', 'motd'), 'edited\n')
  const digests: string[] = []
  for (const [name, where] of Object.entries({ there: place, here: {} })) {
    const output = join(WORKDIR, `${name}.img`)
    const { status, said } = await step('initrd', { ...settings, ...where }, ['-o', output])
    t.equal(status, 0, said)
    digests.push(sha256File(output))
  }
  t.equal(digests[0], digests[1])
  const manifest = readFileSync(join(WORKDIR, 'there.img.json'), 'utf8')
  t.match(manifest, /"edited": true/)
  const over = await step('rootfs', { ...settings, ...place, OSBUILDER_VERSION: '9' })
  t.not(over.status, 0)
  t.match(over.said, 'was edited, and other settings would rebuild it without the edits')
  t.match(readFileSync(join(WORKDIR, 'alpine_rootfs', 'etc', 'motd'), 'utf8'), 'edited')
  t.strictSame(halfMade(WORKDIR), [])
})

t.test('a disk of the caller that is full is told as that', async (t) => {
  const place = { USE_DOCKER: 'yes', DOCKER_HOST: first.docker.host }
  const settings = { ...COMMON, ...DISTROS.debian, ...place, ...THROUGH, WORKDIR: join(small, 'work') }
  const { status, said } = await makeAsync('rootfs', settings, caller.enter)
  t.not(status, 0)
  t.match(said, /no space left/)
  t.equal(said.split('ERROR').length, 2, said)
  const [tool = '', ...rest] = [...caller.enter, 'find', small, '-name', '*.tmp-*', '-o', '-name', '*_rootfs']
  t.equal(execFileSync(tool, rest, { encoding: 'utf8' }), '')
  t.equal(first.docker.ask('ps', '--all', '--quiet'), '', 'no container is left')
})

t.test(
  'a step that is stopped or killed takes its container along, on another machine as well',
  async (t) => {
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const WORKDIR = join(mine, 'orphan')
      const settings = { ...COMMON, ...DISTROS.debian, USE_DOCKER: 'yes', DOCKER_HOST: first.docker.host }
      const child = startStep('rootfs', { ...settings, WORKDIR })
      const building = ended(child)
      await until(() => first.docker.ask('ps', '--quiet') !== '')
      child.kill(signal)
      const { said } = await building
      t.notMatch(said, 'ERROR', signal)
      await until(() => first.docker.ask('ps', '--all', '--quiet') === '')
      t.equal(first.docker.ask('ps', '--all', '--quiet'), '')
      t.notOk(existsSync(join(WORKDIR, 'debian_rootfs')))
    }
  },
)

t.test('an engine elsewhere that goes away is told, and nothing is left', async (t) => {
  for (const end of ['its container is killed', 'it is killed'] as const) {
    const WORKDIR = join(mine, 'gone')
    const settings = { ...COMMON, ...DISTROS.debian, ...FARM, ARCH: 'x86_64', WORKDIR }
    const building = ended(startStep('rootfs', { ...settings, EXTRA_PKGS: 'less' }))
    await until(() => first.docker.ask('ps', '--quiet') !== '')
    await new Promise((resolve) => setTimeout(resolve, 3000))
    if (end === 'it is killed') await endOf(first.docker.child, 'SIGKILL')
    else first.docker.ask('kill', first.docker.ask('ps', '--quiet'))
    const { status, said } = await building
    t.equal(status, 1, said)
    t.match(
      said,
      end === 'it is killed'
        ? /docker at osbuilder-x86_64 went away while the step ran/
        : /the container of the step was killed/,
    )
    t.equal(said.split('ERROR').length, 2, 'one error')
    t.notOk(existsSync(join(WORKDIR, 'debian_rootfs')))
    t.strictSame(halfMade(WORKDIR), [])
  }
  const lost = { ...FARM, BUILDER: `tcp://${second.address}:9` }
  const proxied = await makeAsync('rootfs', {
    ...COMMON,
    ...lost,
    http_proxy: proxy.url,
    WORKDIR: join(mine, 'gone'),
  })
  t.match(proxied.said, 'docker does not answer at tcp://', 'a proxy is no engine')
  const gone = await makeAsync('rootfs', {
    ...COMMON,
    ...DISTROS.debian,
    ...FARM,
    ARCH: 'x86_64',
    WORKDIR: join(mine, 'gone'),
  })
  t.match(gone.said, 'docker does not answer at osbuilder-x86_64')
  t.match(gone.said, 'try: start the engine that BUILDER names, or correct BUILDER')
  // The container of an engine that was killed goes when that is started again.
  const back = await startDockerd(join(scratch, 'machine-0'), { within: first.room.enter })
  await until(() => back.ask('ps', '--all', '--quiet') === '')
  t.equal(back.ask('ps', '--all', '--quiet'), '')
  await endOf(back.child)
})

/** Build on the host and elsewhere, and compare what came out. Returns the rows of the table. */
async function compare(
  t: Test,
  target: 'rootfs' | 'all',
  settings: Readonly<Record<string, string>>,
  places: Readonly<Record<string, Readonly<Record<string, string>>>>,
): Promise<string[][]> {
  const distro = settings['DISTRO'] ?? ''
  const rows: string[][] = []
  for (const [place, words] of Object.entries({ host: {}, ...places })) {
    const WORKDIR = join(mine, `${distro}-${place.replaceAll(' ', '-')}`)
    const variables = { ...settings, ...words, ...(place === 'host' ? {} : THROUGH), WORKDIR }
    const { status, said } = await makeAsync(target, variables, place === 'host' ? [] : caller.enter)
    t.equal(status, 0, said)
    rows.push([place, ...digestsOf(WORKDIR, distro)].slice(0, target === 'all' ? 4 : 2))
    t.strictSame(halfMade(WORKDIR), [], 'nothing half-made is left')
  }
  for (const row of [['', 'rootfs', 'image', 'initrd'], ...rows])
    t.comment(row.map((cell) => cell.padEnd(18)).join(''))
  for (const row of rows.slice(1)) t.strictSame(row.slice(1), rows[0]?.slice(1), String(row[0]))
  return rows
}

interface Machine {
  readonly room: Room
  /** Address of this host on the wire to it, and its own. */
  readonly gateway: string
  readonly address: string
  readonly docker: Dockerd
}

/** A machine on a wire of its own to this host, with an engine that listens there. */
async function openMachine(number: number): Promise<Machine> {
  const room = await openRoom(HIDE, [PROJECT, mine], ['unshare', '--net'])
  const net = `198.18.${String(SECOND * 2 + number)}`
  const [gateway, address, wire] = [`${net}.1`, `${net}.2`, `osb${String(process.pid)}x${String(number)}`]
  const ip = (line: string, within: readonly string[] = []): void => {
    const [tool = '', ...rest] = [...within, 'ip', ...line.split(' ')]
    execFileSync(tool, rest)
  }
  ip(`link add ${wire} type veth peer name eth0 netns ${String(room.pid)}`)
  ip(`addr add ${gateway}/30 dev ${wire}`)
  ip(`link set ${wire} up`)
  ip(`addr add ${address}/30 dev eth0`, room.enter)
  ip('link set eth0 up', room.enter)
  ip(`route add default via ${gateway}`, room.enter)
  const folder = join(scratch, `machine-${String(number)}`)
  const docker = await startDockerd(folder, { within: room.enter, tcp: `tcp://${address}:2375` })
  return { room, gateway, address, docker }
}

/** Contexts of docker's for the machines, by architecture. Returns the folder for DOCKER_CONFIG. */
function contexts(by: Readonly<Record<string, Machine>>): string {
  const folder = join(scratch, 'docker-config')
  for (const [arch, { docker }] of Object.entries(by)) {
    const words = ['create', `osbuilder-${arch}`, '--docker', `host=${docker.host}`]
    execFileSync('docker', ['--config', folder, 'context', ...words], { stdio: 'ignore' })
  }
  return folder
}

/** Podman's service on a machine. */
async function startPodman({ room, address }: Machine) {
  const host = `tcp://${address}:2376`
  // What it grants is at most what this host grants.
  const conf = join(scratch, 'containers.conf')
  const limits = ownLimits().filter((word) => word !== '--ulimit')
  writeFileSync(conf, `[containers]\ndefault_ulimits = ${JSON.stringify(limits)}\n`)
  const storage = podmanStorage(join(scratch, 'podman'))
  const env = { ...process.env, CONTAINERS_STORAGE_CONF: storage, CONTAINERS_CONF: conf }
  const words = ['podman', '--runtime', 'runc', 'system', 'service', '--time', '0', host]
  const [tool = '', ...rest] = [...room.enter, 'setpriv', '--pdeathsig', 'TERM', ...words]
  const child = spawn(tool, rest, { env, stdio: 'ignore' })
  const ask = (...asked: string[]): string =>
    execFileSync('podman', ['--remote', '--url', host, ...asked], { encoding: 'utf8' }).trim()
  await until(() => spawnSync('podman', ['--remote', '--url', host, 'version']).status === 0)
  return {
    host,
    child,
    ask,
    load: (docker: Dockerd) => ask('load', '--quiet', '--input', builderTar(docker)),
  }
}

/** A proxy that knows Debian's archive and nothing else. */
async function startProxy() {
  const server = createServer((request, response) => {
    const path = /\/((dists|pool)\/.*)$/.exec(request.url ?? '')?.[1] ?? 'none'
    fetch(`${debian.url}/${path}`)
      .then(async (reply) => {
        response.writeHead(reply.status).end(Buffer.from(await reply.arrayBuffer()))
      })
      .catch(() => response.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, here, resolve))
  const { port } = server.address() as { port: number }
  return {
    url: `http://${here}:${String(port)}`,
    close: () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections()
        server.close(() => {
          resolve()
        })
      }),
  }
}
