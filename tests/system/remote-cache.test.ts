// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import {
  cpSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { sha256File } from '../../scripts/digest.ts'
import { smallAlpine, startRepository } from '../mirrors/alpine.ts'
import { step } from './user.ts'
import type { Ended } from './user.ts'

t.setTimeout(10 * 60 * 1000)

const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
const alpine = await startRepository()
await alpine.publish(await smallAlpine())
const registry = await startRegistry()
t.teardown(async () => {
  registry.child.kill()
  await alpine.close()
  rmSync(scratch, { recursive: true, force: true })
})

const COMMON = {
  DISTRO: 'alpine',
  REPO_URL: alpine.url,
  REPO_KEYRING: alpine.keyring,
  SOURCE_DATE_EPOCH: '1795000000',
  REMOTE_CACHE: `http://127.0.0.1:${String(registry.port)}/team/osbuilder`,
}

/** A machine with an empty cache of its own. */
function machine(name: string, more: Readonly<Record<string, string>> = {}) {
  const settings = { ...COMMON, WORKDIR: join(scratch, name), ...more }
  return {
    rootfs: () => step('rootfs', settings),
    image: async () => {
      const { status, said } = await step('image', settings)
      if (status !== 0) throw new Error(said)
      return sha256File(join(scratch, name, 'kata-containers.img'))
    },
    log: () => readFileSync(join(scratch, name, 'logs', 'rootfs-alpine.log'), 'utf8'),
    entries: (stage: string) =>
      readdirSync(join(scratch, name, 'cache', stage)).filter((key) => !key.startsWith('.')),
  }
}

let bytes = ''

t.test('what one machine built is stored, under its fingerprints', async (t) => {
  const first = machine('first', { REMOTE_CACHE_PUSH: 'yes' })
  const built = await first.rootfs()
  t.equal(built.status, 0, built.said)
  t.match(built.said, /base tree stored in 127.0.0.1:\d+\/team\/osbuilder/)
  t.match(built.said, 'provisioned tree stored')
  t.strictSame(
    tags(),
    [
      ...first.entries('base').map((key) => `base-${key}`),
      ...first.entries('provisioned').map((key) => `provisioned-${key}`),
    ].sort(),
  )
  bytes = await first.image()
})

t.test('another machine takes it from there, and makes the same of it', async (t) => {
  const second = machine('second')
  const built = await second.rootfs()
  t.equal(built.status, 0, built.said)
  t.match(built.said, 'base tree from')
  t.notMatch(built.said, 'installing packages')
  t.equal(await second.image(), bytes)
})

t.test('who may only read stores nothing', async (t) => {
  const before = tags()
  const built = await machine('third', { AGENT_POLICY: 'no', KEEP_PACKAGE_DB: 'no' }).rootfs()
  t.equal(built.status, 0, built.said)
  t.notMatch(built.said, 'stored')
  t.strictSame(tags(), before)
})

t.test('the entry of another fingerprint is not used', async (t) => {
  const own = tags()
  const [base = '', provisioned = ''] = own
  const name = `docker://127.0.0.1:${String(registry.port)}/team`
  const flags = ['--insecure-policy', 'copy', '--quiet', '--preserve-digests', '--src-tls-verify=false']
  execFileSync('skopeo', [
    ...flags,
    '--dest-tls-verify=false',
    `${name}/osbuilder:${provisioned}`,
    `${name}/mixed-up:${base}`,
  ])
  const built = await machine('fourth', {
    REMOTE_CACHE: `${COMMON.REMOTE_CACHE.replace('osbuilder', 'mixed-up')}`,
  }).rootfs()
  t.equal(built.status, 0, built.said)
  t.match(built.said, 'base tree not used: it is the entry of another fingerprint')
  t.match(built.said, 'installing packages')
})

t.test(
  'a blob that was changed in the registry is not used, and the build gives the same bytes',
  async (t) => {
    const blobs = join(registry.folder, 'docker/registry/v2/blobs/sha256')
    const files = readdirSync(blobs, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('/data'))
      .map((file) => join(blobs, file))
      .sort((a, b) => statSync(b).size - statSync(a).size)
    const [largest = ''] = files
    const content = readFileSync(largest)
    const changed = Buffer.from(content)
    const middle = Math.floor(changed.length / 2)
    changed[middle] = (changed[middle] ?? 0) ^ 1
    writeFileSync(largest, changed)
    const fifth = machine('fifth')
    const built = await fifth.rootfs()
    writeFileSync(largest, content)
    t.equal(built.status, 0, built.said)
    t.match(built.said, /base tree not used: .*digest/i)
    t.match(built.said, 'installing packages')
    t.equal(await fifth.image(), bytes)
  },
)

t.test('what would be unpacked elsewhere than told is not used, and nothing of it is unpacked', async (t) => {
  const address = COMMON.REMOTE_CACHE.replace('osbuilder', 'hostile')
  const cache = join(scratch, 'hostile-cache')
  const hostile = machine('hostile', { REMOTE_CACHE: address, REMOTE_CACHE_PUSH: 'yes', CACHE_DIR: cache })
  const [key = ''] = machine('first').entries('provisioned')
  cpSync(join(scratch, 'first', 'cache'), cache, { recursive: true })
  const entry = join(cache, 'provisioned', key)
  const paths = join(entry, 'paths.tar')
  symlinkSync('/run', join(scratch, 'link'))
  execFileSync('tar', ['--append', '--file', paths, '--directory', scratch, './link'])
  const seal = join(entry, 'seal.json')
  const told = JSON.parse(readFileSync(seal, 'utf8')) as object
  writeFileSync(seal, JSON.stringify({ ...told, 'paths.tar': { sha256: sha256File(paths), stamp: '' } }))
  const pushed = await hostile.rootfs()
  t.match(pushed.said, 'provisioned tree stored', pushed.said)

  const victim = machine('victim', { REMOTE_CACHE: address })
  const built = await victim.rootfs()
  t.equal(built.status, 0, built.said)
  t.match(built.said, 'base tree from')
  t.match(built.said, 'provisioned tree not used: paths.tar: ./link is not what delta.json says')
  t.equal(await victim.image(), bytes)
})

t.test('a registry that is gone holds nobody up', async (t) => {
  const built = await machine('sixth', { REMOTE_CACHE: 'http://127.0.0.1:1/team/osbuilder' }).rootfs()
  t.equal(built.status, 0, built.said)
  t.match(built.said, /127.0.0.1:1\/team\/osbuilder: base tree not used: .*refused/)
})

t.test('an address that is none is refused', async (t) => {
  const refused: Ended = await machine('seventh', { REMOTE_CACHE: 'registry' }).rootfs()
  t.equal(refused.status, 78, refused.said)
  t.match(refused.said, /REMOTE_CACHE=registry: expected a repository such as/)
})

/** Tags of the repository, as the registry's disk has them. */
function tags(): string[] {
  const folder = join(registry.folder, 'docker/registry/v2/repositories/team/osbuilder/_manifests/tags')
  return readdirSync(folder).sort()
}

interface Registry {
  readonly port: number
  readonly folder: string
  readonly child: ChildProcess
}

async function startRegistry(): Promise<Registry> {
  const port = await freePort()
  const folder = join(scratch, 'registry')
  const file = join(scratch, 'registry.yml')
  const storage = JSON.stringify({ filesystem: { rootdirectory: folder } })
  writeFileSync(
    file,
    `version: 0.1\nstorage: ${storage}\nhttp: ${JSON.stringify({ addr: `127.0.0.1:${String(port)}` })}\n`,
  )
  const child = spawn('docker-registry', ['serve', file], { stdio: 'ignore' })
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const answers = await fetch(`http://127.0.0.1:${String(port)}/v2/`).then(
      () => true,
      () => false,
    )
    if (answers) return { port, folder, child }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error('the registry does not answer')
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
