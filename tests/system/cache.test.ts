// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { sha256File } from '../../scripts/digest.ts'
import { SETTINGS } from '../../scripts/settings-table.ts'
import type { SettingName } from '../../scripts/settings-table.ts'
import { startMirror } from '../mirrors/apt.ts'
import { ended, makeAsync, startStep, step } from './user.ts'

const MINUTE_MS = 60 * 1000
t.setTimeout(15 * MINUTE_MS)

const mirror = await startMirror()
const otherMirror = await startMirror()
const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
t.teardown(async () => {
  await Promise.all([mirror.close(), otherMirror.close()])
  rmSync(scratch, { recursive: true, force: true })
})

const WORKDIR = join(scratch, 'w')
const AGENT = join(scratch, 'agent')
const ARCHIVE = join(scratch, 'archive.tar')
const POLICY = join(scratch, 'policy.rego')
const MODULES = join(scratch, '6.1.0')
const KEYRING = join(scratch, 'keyring.gpg')

const GOOD = {
  DISTRO: 'debian',
  REPO_URL: mirror.url,
  REPO_KEYRING: KEYRING,
  WORKDIR,
  SOURCE_DATE_EPOCH: '1795000000',
  INITRD_COMPRESSION: 'zstd',
  AGENT_SOURCE_BIN: AGENT,
  GUEST_HOOKS_TARBALL: ARCHIVE,
  AGENT_POLICY: 'yes',
  AGENT_POLICY_FILE: POLICY,
  KERNEL_MODULES_DIR: MODULES,
}
const ROOTFS = join(WORKDIR, 'debian_rootfs')

type Outcome = 'rootfs' | 'image' | 'initrd' | 'nothing'

/** The first thing that would be built anew, by what `-w` tells of each step. */
async function wouldBuild(settings: Readonly<Record<string, string>>): Promise<Outcome[]> {
  const all = { ...GOOD, ...settings }
  const rootfs = await step('rootfs', all, ['-w'])
  if (rootfs.status !== 0) throw new Error(rootfs.said)
  if (/ built   /.test(rootfs.stdout)) return ['rootfs']
  const packed: Outcome[] = []
  for (const name of ['image', 'initrd'] as const) {
    const { status, said, stdout } = await step(name, all, ['-w'])
    if (status !== 0) throw new Error(said)
    if (/ built   /.test(stdout)) packed.push(name)
  }
  return packed.length === 0 ? ['nothing'] : packed
}

interface Row {
  readonly value: string
  readonly builds: Outcome
  /** What else must be set for the value to be allowed. */
  readonly also?: Readonly<Record<string, string>>
}

/** A change of every setting, and what it must build anew; `elsewhere` makes outputs of other names. */
const CHANGES: Readonly<Record<SettingName, Row | 'elsewhere'>> = {
  DISTRO: 'elsewhere',
  OS_VERSION: { value: 'trixie', builds: 'rootfs' },
  ARCH: { value: 'aarch64', builds: 'rootfs' },
  AGENT_INIT: { value: 'yes', builds: 'rootfs' },
  BUILD_METHOD: { value: 'distro', builds: 'nothing' },
  // What dracut is told matters to the guests it makes: dracut.test.ts.
  DRACUT_KVERSION: { value: '6.1.0', builds: 'nothing' },
  DRACUT_CONF_DIR: { value: '/nowhere', builds: 'nothing' },
  // The same bytes in a container: container.test.ts.
  USE_DOCKER: { value: 'no', builds: 'nothing' },
  USE_PODMAN: { value: 'no', builds: 'nothing' },
  DOCKER_RUNTIME: { value: 'runc', builds: 'nothing' },
  IMAGE_REGISTRY: { value: 'mirror.example:5000', builds: 'nothing' },
  // Without a container it is refused, and with one nothing is told here.
  BUILDER: 'elsewhere',
  BUILDER_NODE: { value: '/opt/{arch}/node', builds: 'nothing' },
  BUILDER_BASE: { value: 'debian:12', builds: 'nothing' },
  EXTRA_PKGS: { value: 'curl', builds: 'rootfs' },
  SECCOMP: { value: 'no', builds: 'rootfs' },
  DEBUG: { value: 'yes', builds: 'nothing' },
  AGENT_SOURCE_BIN: { value: '/bin/true', builds: 'rootfs' },
  AGENT_TARBALL: { value: ARCHIVE, builds: 'rootfs', also: { AGENT_SOURCE_BIN: '' } },
  // How an agent is built from a repository has its own test: build.test.ts.
  AGENT_REPO: 'elsewhere',
  AGENT_VERSION: 'elsewhere',
  AGENT_SOURCE_DIR: { value: 'src/agent', builds: 'nothing' },
  LIBC: { value: 'gnu', builds: 'nothing' },
  AGENT_BIN: { value: 'other-agent', builds: 'rootfs' },
  AGENT_POLICY: { value: 'no', builds: 'rootfs' },
  AGENT_POLICY_FILE: { value: '/etc/passwd', builds: 'rootfs' },
  ROOTFS_DIR: 'elsewhere',
  // What comes from a registry is what would be built: remote-cache.test.ts.
  REMOTE_CACHE: { value: 'http://127.0.0.1:1/none', builds: 'nothing' },
  REMOTE_CACHE_PUSH: { value: 'yes', builds: 'nothing' },
  REPO_URL: { value: otherMirror.url, builds: 'nothing' },
  REPO_COMPONENTS: { value: 'main contrib', builds: 'rootfs' },
  // Told by tests/system/rpm-distros.test.ts.
  DISTRO_REPO: 'elsewhere',
  SELINUX: 'elsewhere',
  REPO_KEYRING: { value: join(scratch, 'same-keys.gpg'), builds: 'nothing' },
  // Debian's own repositories take neither: distros.test.ts.
  REPO_KEY: 'elsewhere',
  REPO_EXTRA: 'elsewhere',
  REFRESH: { value: 'always', builds: 'nothing' },
  KERNEL_MODULES_DIR: { value: join(scratch, '6.2.0'), builds: 'rootfs' },
  GUEST_HOOKS_TARBALL: { value: join(scratch, 'other.tar'), builds: 'rootfs' },
  PAUSE_IMAGE_TARBALL: { value: ARCHIVE, builds: 'rootfs' },
  COCO_GUEST_COMPONENTS_TARBALL: { value: ARCHIVE, builds: 'rootfs' },
  CONFIDENTIAL_GUEST: { value: 'yes', builds: 'rootfs' },
  KEEP_PACKAGE_DB: { value: 'no', builds: 'rootfs' },
  KEEP_DOCS: { value: 'yes', builds: 'rootfs' },
  REMOVE_UNITS: { value: 'yes', builds: 'rootfs' },
  FS_TYPE: { value: 'erofs', builds: 'image' },
  FS_COMPRESSION: { value: 'none', builds: 'nothing' },
  FS_UUID: { value: '01234567-89ab-cdef-0123-456789abcdef', builds: 'image' },
  FS_HASH_SEED: { value: '01234567-89ab-cdef-0123-456789abcdef', builds: 'image' },
  DISK_SIGNATURE: { value: '01234567', builds: 'image' },
  MEASURED_ROOTFS: { value: 'yes', builds: 'image' },
  // Of an image without a hash tree they change nothing: formats.test.ts has one with.
  VERITY_SALT: { value: '00', builds: 'nothing' },
  BUILD_VARIANT: { value: 'mine', builds: 'nothing' },
  VERITY_KEY: { value: POLICY, builds: 'image', also: { MEASURED_ROOTFS: 'yes', VERITY_CERT: POLICY } },
  VERITY_CERT: { value: POLICY, builds: 'image', also: { MEASURED_ROOTFS: 'yes', VERITY_KEY: POLICY } },
  BLOCK_SIZE: { value: '1024', builds: 'image' },
  IMG_SIZE: { value: '400', builds: 'image' },
  ROOT_FREE_SPACE: { value: '7', builds: 'image' },
  IMAGE_SIZE_ALIGNMENT_MB: { value: '2', builds: 'image' },
  SKIP_DAX_HEADER: { value: 'yes', builds: 'image' },
  SKIP_ROOTFS_CHECK: { value: 'yes', builds: 'nothing' },
  INITRD_COMPRESSION: { value: 'gzip', builds: 'initrd' },
  ROOTFS_OVERLAY: { value: MODULES, builds: 'rootfs' },
  DEV: { value: 'yes', builds: 'initrd' },
  INITRD_COMPRESSION_LEVEL: { value: '3', builds: 'initrd' },
  // A kernel is built beside the guest, and never into it.
  KERNEL_SOURCE: { value: 'git', builds: 'nothing' },
  KERNEL_VERSION: { value: '6.6.74', builds: 'nothing' },
  KERNEL_MIRROR: { value: 'http://127.0.0.1:9', builds: 'nothing' },
  KERNEL_KEYRING: { value: '/nowhere', builds: 'nothing' },
  KERNEL_REPO: { value: '/nowhere', builds: 'nothing' },
  KERNEL_TAG: { value: 'v6', builds: 'nothing' },
  KERNEL_TREE: { value: '/nowhere', builds: 'nothing' },
  KERNEL_PATCHES: { value: '/nowhere', builds: 'nothing' },
  KERNEL_VARIANT: { value: 'debug', builds: 'nothing' },
  KERNEL_FRAGMENTS: { value: '/nowhere', builds: 'nothing' },
  KERNEL_JOBS: { value: '1', builds: 'nothing' },
  CROSS_COMPILE: { value: 'x-', builds: 'nothing' },
  PREFIX: { value: '/opt', builds: 'nothing' },
  BOOT_MACHINE: { value: 'microvm', builds: 'nothing' },
  BOOT: { value: 'initrd', builds: 'nothing' },
  KERNEL: { value: '/boot/none', builds: 'nothing' },
  KERNEL_CMDLINE: { value: 'quiet', builds: 'nothing' },
  BOOT_COMMAND: { value: 'true', builds: 'nothing' },
  BOOT_DISK: { value: 'nvdimm', builds: 'nothing' },
  BOOT_MEMORY: { value: '512', builds: 'nothing' },
  BOOT_TIMEOUT: { value: '9', builds: 'nothing' },
  TARGET: { value: 'initrd', builds: 'nothing' },
  SIGN_KEY: { value: '/nowhere', builds: 'nothing' },
  VERIFY_KEY: { value: '/nowhere', builds: 'nothing' },
  NAME: { value: 'other', builds: 'nothing' },
  KEEP: { value: '1G', builds: 'nothing' },
  CACHE_DIR: 'elsewhere',
  // What a lock makes of a build: lock.test.ts.
  LOCK_FILE: { value: '/dev/null', builds: 'nothing' },
  WRITE: { value: 'yes', builds: 'nothing' },
  VENDOR_DIR: { value: '/nowhere', builds: 'nothing' },
  OFFLINE: 'elsewhere',
  WORKDIR: 'elsewhere',
  ROOTFS_BUILD_DEST: 'elsewhere',
  IMAGES_BUILD_DEST: 'elsewhere',
  SOURCE_DATE_EPOCH: { value: '1795000001', builds: 'rootfs' },
  OSBUILDER_VERSION: { value: '9.9', builds: 'rootfs' },
  DESTDIR: { value: '/tmp', builds: 'nothing' },
  INSTALL_DIR: { value: '/opt', builds: 'nothing' },
  HTTP_PROXY: { value: '', builds: 'nothing' },
  HTTPS_PROXY: { value: 'http://127.0.0.1:9', builds: 'nothing' },
  NO_PROXY: { value: 'example.invalid', builds: 'nothing' },
}

t.before(() => {
  writeFileSync(AGENT, '#!/bin/sh\n', { mode: 0o755 })
  writeFileSync(POLICY, 'package policy\n')
  const keys = new URL('../../../rootfs-builder/debian/keys/debian-archive-keyring.gpg', import.meta.url)
  cpSync(keys, KEYRING)
  cpSync(keys, join(scratch, 'same-keys.gpg'))
  for (const version of ['6.1.0', '6.2.0']) {
    mkdirSync(join(scratch, version, 'kernel'), { recursive: true })
    writeFileSync(join(scratch, version, 'kernel/a.ko'), version)
    writeFileSync(join(scratch, version, 'modules.dep'), 'kernel/a.ko:\n')
  }
  mkdirSync(join(scratch, 'hooks'))
  writeFileSync(join(scratch, 'hooks/hook'), 'one')
  execFileSync('tar', ['-C', join(scratch, 'hooks'), '-cf', ARCHIVE, '.'])
  writeFileSync(join(scratch, 'hooks/hook'), 'two')
  execFileSync('tar', ['-C', join(scratch, 'hooks'), '-cf', join(scratch, 'other.tar'), '.'])
})

t.test('the first build tells that it is one', async (t) => {
  const why = await makeAsync('why', { ...GOOD, TARGET: 'initrd' })
  t.equal(why.status, 0, why.said)
  t.match(why.stdout, /base +built +its first build/)
  t.match(why.stdout, /initrd +built +its rootfs is built/)
  for (const name of ['rootfs', 'image', 'initrd'] as const) {
    const { status, said } = await step(name, GOOD)
    t.equal(status, 0, said)
  }
  t.strictSame(await wouldBuild({}), ['nothing'])
})

t.test('of every setting: a change that alters what is made builds it again, another does not', async (t) => {
  t.strictSame(Object.keys(CHANGES).sort(), Object.keys(SETTINGS).sort(), 'every setting has its row')
  for (const [name, row] of Object.entries(CHANGES)) {
    if (row === 'elsewhere') continue
    const { value, builds, also } = row
    t.strictSame(await wouldBuild({ ...also, [name]: value }), [builds], `${name}=${value}`)
  }
})

t.test('of every kind of file: a changed content builds again, a touched file does not', async (t) => {
  const touched = new Date('2030-01-01')
  for (const file of [AGENT, ARCHIVE, POLICY, join(MODULES, 'kernel/a.ko')]) {
    const content = readFileSync(file)
    utimesSync(file, touched, touched)
    t.strictSame(await wouldBuild({}), ['nothing'], `${file} touched`)
    appendFileSync(file, '\n')
    t.strictSame(await wouldBuild({}), ['rootfs'], `${file} changed`)
    writeFileSync(file, content)
    t.strictSame(await wouldBuild({}), ['nothing'], `${file} as it was`)
  }
  writeFileSync(join(MODULES, 'kernel/b.ko'), 'b')
  t.strictSame(await wouldBuild({}), ['rootfs'], 'one more module')
  rmSync(join(MODULES, 'kernel/b.ko'))
})

t.test('what was changed is told by its name', async (t) => {
  const why = await makeAsync('why', { ...GOOD, AGENT_INIT: 'yes', EXTRA_PKGS: 'curl' })
  t.match(why.stdout, /base +built +(?=.*packages: -init -dbus).*EXTRA_PKGS: \+curl/)
  t.match(why.stdout, /provisioned +built .*setting AGENT_INIT: no -> yes/)
  t.match(why.stdout, /image +built +its rootfs is built/)
  t.match(
    (await makeAsync('why', { ...GOOD, IMG_SIZE: '400' })).stdout,
    /image +built +setting IMG_SIZE: \(none\) -> 400/,
  )
})

t.test('one more package is installed over the tree of the others, and is all that is fetched', async (t) => {
  const extra = { ...GOOD, EXTRA_PKGS: 'tree' }
  const before = mirror.asked.length
  const built = await step('rootfs', extra)
  t.equal(built.status, 0, built.said)
  const fetched = mirror.asked.slice(before).filter((path) => path.endsWith('.deb'))
  t.equal(fetched.length, 1, fetched.join(' '))
  t.match(fetched[0], /\/tree_[^/]+\.deb$/)
  t.ok(existsSync(join(ROOTFS, 'usr/bin/tree')))
  t.notOk(existsSync(join(ROOTFS, 'usr/share/man/man1/tree.1.gz')), 'documents stay out of it as well')
  t.strictSame(readdirSync(join(ROOTFS, 'var/lib/apt/lists')), [])
  t.match(readFileSync(`${ROOTFS}.json`, 'utf8'), /"name": "tree"/)

  const cold = { ...extra, WORKDIR: join(scratch, 'cold') }
  const again = await step('rootfs', cold)
  t.equal(again.status, 0, again.said)
  const stamps: (string | undefined)[] = []
  for (const settings of [extra, cold]) {
    const image = await step('image', settings)
    t.equal(image.status, 0, image.said)
    stamps.push(sha256File(join(settings.WORKDIR, 'kata-containers.img')))
  }
  t.equal(stamps[0], stamps[1], 'and the same comes of an empty cache')
  t.equal((await step('rootfs', GOOD)).status, 0)
})

t.test('a corrupt entry is dropped and made again, and never used', async (t) => {
  const base = join(WORKDIR, 'cache/base')
  // That of the distro's own set, from which the other was made with one package more.
  const sizeBytes = (name: string): number => statSync(join(base, name, 'tree.tar')).size
  const entry = readdirSync(base).sort((a, b) => sizeBytes(a) - sizeBytes(b))[0] ?? ''
  const tar = join(base, entry, 'tree.tar')
  const bytes = readFileSync(tar)
  const middle = Math.floor(bytes.length / 2)
  bytes[middle] = (bytes[middle] ?? 0) ^ 1
  chmodSync(tar, 0o644)
  writeFileSync(tar, bytes)
  const again = await step('rootfs', { ...GOOD, KEEP_PACKAGE_DB: 'no' })
  t.equal(again.status, 0, again.said)
  t.match(again.said, /tree.tar is not what was put into the cache: dropped/)
  t.match(again.said, 'installing packages')
  bytes[middle] = (bytes[middle] ?? 0) ^ 1
  t.ok(readFileSync(tar).equals(bytes), 'the same index gives the same tree')
  t.equal((await step('rootfs', GOOD)).status, 0)
})

t.test('the cache tells what it holds, and keeps what it is told to keep', async (t) => {
  const shown = await makeAsync('cache', GOOD)
  t.match(shown.stdout, /CACHE +base +2 entries +\d+\.\d MiB +used [^\n]*min ago/)
  t.match(shown.stdout, /CACHE +provisioned +\d entries/)
  t.match(
    (await makeAsync('cache-clean', { ...GOOD, KEEP: 'much' })).said,
    /KEEP=much: expected a size such as 10G/,
  )
  t.match((await makeAsync('cache-clean', GOOD)).stdout, /0 entries removed/)
  t.match((await makeAsync('cache-clean', { ...GOOD, KEEP: '0' })).stdout, /[1-9] entries removed/)
  t.match((await makeAsync('cache', GOOD)).stdout, /in all +0 KiB/)
  t.match((await step('rootfs', GOOD)).said, 'unchanged')
  t.ok(readdirSync(ROOTFS).length > 10)
})

/** Digest of an image as its manifest tells it. */
function imageDigest(workdir: string): string | undefined {
  const manifest = readFileSync(join(workdir, 'kata-containers.img.json'), 'utf8')
  return /"sha256": "(\w{64})",\n +"sizeBytes"/.exec(manifest)?.[1]
}

const SHARED = { ...GOOD, CACHE_DIR: join(scratch, 'shared') }

/** Names in a stage of the shared cache: those of entries, and those of what is being made. */
function inStage(stage: string): { whole: string[]; begun: string[] } {
  const folder = join(SHARED.CACHE_DIR, stage)
  const names = existsSync(folder) ? readdirSync(folder) : []
  return {
    whole: names.filter((name) => name.length === 64),
    begun: names.filter((name) => name.includes('.tmp-')),
  }
}

async function until(what: string, isTrue: () => boolean): Promise<void> {
  for (const startMs = Date.now(); !isTrue();) {
    if (Date.now() - startMs > MINUTE_MS) throw new Error(`not within a minute: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

t.test('builds that share a cache make each tree once, and go on when the first is killed', async (t) => {
  const first = startStep('rootfs', { ...SHARED, WORKDIR: join(scratch, 'killed') })
  const over = ended(first)
  await until('a base tree is begun', () => inStage('base').begun.length > 0)
  // Two that want the same tree, and one that wants another over it: all wait for the first.
  const builds = ['one', 'two', 'three'].map((name) =>
    step('rootfs', {
      ...SHARED,
      WORKDIR: join(scratch, name),
      ...(name === 'three' ? { EXTRA_PKGS: 'tree' } : {}),
    }),
  )
  await new Promise((resolve) => setTimeout(resolve, 1500))
  t.strictSame(inStage('base').whole, [], 'nothing is there yet')
  first.kill('SIGKILL')
  await over
  const told = await Promise.all(builds)
  for (const { status, said } of told) t.equal(status, 0, said)
  const making = ['one', 'two', 'three'].filter((name) =>
    readFileSync(join(scratch, name, 'logs/rootfs-debian.log'), 'utf8').includes('--variant=required'),
  )
  t.equal(making.length, 1, "one of them makes the distro's own set, which the others wait for")
  t.equal(inStage('base').whole.length, 2, "the distro's own set, and the one with another package")
  for (const name of ['one', 'two']) {
    const image = await makeAsync('image', { ...SHARED, WORKDIR: join(scratch, name) })
    t.equal(image.status, 0, image.said)
  }
  t.ok(imageDigest(join(scratch, 'one')))
  t.equal(imageDigest(join(scratch, 'one')), imageDigest(join(scratch, 'two')))
  t.strictSame(inStage('base').begun, [], 'what the killed one left is gone')
})

t.test('two makes in one folder, each with an agent of its own, both end well', async (t) => {
  const settings = { ...SHARED, WORKDIR: join(scratch, 'race') }
  const agents = ['a', 'b'].map((name) => join(scratch, `agent-${name}`))
  const alone: (string | undefined)[] = []
  for (const agent of agents) {
    writeFileSync(agent, `#!/bin/sh\n# ${agent}\n`, { mode: 0o755 })
    const made = await makeAsync('image', { ...settings, AGENT_SOURCE_BIN: agent })
    t.equal(made.status, 0, made.said)
    alone.push(imageDigest(settings.WORKDIR))
  }
  t.not(alone[0], alone[1])
  for (const laterMs of [0, 500]) {
    const both = await Promise.all(
      agents.map(async (agent, index) => {
        await new Promise((resolve) => setTimeout(resolve, index * laterMs))
        return makeAsync('image', { ...settings, AGENT_SOURCE_BIN: agent })
      }),
    )
    for (const { status, said } of both) t.equal(status, 0, `${String(laterMs)} ms later: ${said}`)
    t.ok(alone.includes(imageDigest(settings.WORKDIR)), 'the image is one of the two, and no mixture')
    t.equal(imageDigest(settings.WORKDIR), sha256File(join(settings.WORKDIR, 'kata-containers.img')))
  }
  for (const [index, agent] of agents.entries()) {
    t.equal((await makeAsync('image', { ...settings, AGENT_SOURCE_BIN: agent })).status, 0)
    t.equal(imageDigest(settings.WORKDIR), alone[index], 'and whoever asks again gets what was asked for')
  }
})

t.test('cache-clean waits for the builds that use the cache', async (t) => {
  const workdir = join(scratch, 'cleaned')
  const build = startStep('rootfs', { ...SHARED, WORKDIR: workdir, KEEP_PACKAGE_DB: 'no' })
  const over = ended(build)
  // From then on it holds the cache, which it unpacks the base tree from.
  await until(
    'the tree is begun',
    () => existsSync(workdir) && readdirSync(workdir).some((name) => name.includes('.tmp-')),
  )
  const [cleaned, built] = await Promise.all([
    makeAsync('cache-clean', { ...SHARED, WORKDIR: join(scratch, 'one'), KEEP: '0' }).then((result) => ({
      ...result,
      hasBuilt: existsSync(join(workdir, 'debian_rootfs')),
    })),
    over,
  ])
  t.equal(built.status, 0, built.said)
  t.equal(cleaned.status, 0, cleaned.said)
  t.ok(cleaned.hasBuilt, 'nothing is removed before the build is done')
  t.strictSame(inStage('base').whole, [])
  t.strictSame(inStage('provisioned').whole, [], 'and then all that it left is')
  t.match((await step('rootfs', { ...SHARED, WORKDIR: workdir, KEEP_PACKAGE_DB: 'no' })).said, 'unchanged')
})
