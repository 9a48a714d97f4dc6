// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { DESCRIPTIONS } from '../../scripts/manifest.ts'
import { readTree } from '../../scripts/tree.ts'
import { smallAlpine, startRepository } from '../mirrors/alpine.ts'
import { CENTOS } from '../mirrors/rpm-distros.ts'
import { startRpmMirror } from '../mirrors/rpm.ts'
import { startMirror } from '../mirrors/apt.ts'
import { cyclonedxChecker, spdxChecker } from '../proof/schemas.ts'
import { leftovers, makeAsync } from './user.ts'
import type { Ended } from './user.ts'

t.setTimeout(15 * 60 * 1000)

const alpine = await startRepository()
const centos = await startRpmMirror(CENTOS)
const debian = await startMirror()
await alpine.publish(await smallAlpine())
const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
t.teardown(async () => {
  await Promise.all([alpine.close(), centos.close(), debian.close()])
  rmSync(scratch, { recursive: true, force: true })
})

const COMMON = { SOURCE_DATE_EPOCH: '1795000000', INITRD_COMPRESSION: 'zstd' }
const WORKDIR = join(scratch, 'w')
const ALPINE = { ...COMMON, DISTRO: 'alpine', REPO_URL: alpine.url, REPO_KEYRING: alpine.keyring, WORKDIR }
const IMAGE = join(WORKDIR, 'kata-containers.img')
const INITRD = join(WORKDIR, 'kata-containers-initrd.img')
const ROOTFS = join(WORKDIR, 'alpine_rootfs')

const checkCyclonedx = cyclonedxChecker()
const checkSpdx = spdxChecker()

interface Item {
  readonly type: string
  readonly name: string
  readonly 'bom-ref'?: string
  readonly licenses?: readonly { readonly expression: string }[]
  readonly components?: readonly Item[]
}

interface Sbom {
  readonly components: readonly Item[]
  readonly compositions: readonly { readonly aggregate: string }[]
}

function readJson(file: string): unknown {
  return JSON.parse(readFileSync(file, 'utf8'))
}

function sbomOf(output: string): Sbom {
  return readJson(`${output}${DESCRIPTIONS.cyclonedx}`) as Sbom
}

/** Guest paths of the files in an SBOM, or of one component of it. */
function filesOf({ components }: Sbom, id?: string): string[] {
  return components
    .filter((item) => id === undefined || item['bom-ref'] === id)
    .flatMap((item) => (item.components ?? []).map(({ name }) => name))
    .sort()
}

async function good(target: string, settings: Readonly<Record<string, string>>): Promise<Ended> {
  const made = await makeAsync(target, settings)
  if (made.status !== 0) throw new Error(`make ${target}: ${made.said}`)
  return made
}

function checkAll(t: Tap, outputs: readonly string[]): void {
  for (const output of outputs) {
    t.strictSame(checkCyclonedx(sbomOf(output)), [], `${output}: valid CycloneDX`)
    t.strictSame(checkSpdx(readJson(`${output}${DESCRIPTIONS.spdx}`)), [], `${output}: valid SPDX`)
    t.strictSame(
      sbomOf(output).compositions.map(({ aggregate }) => aggregate),
      ['complete'],
      `${output}: every file belongs to something`,
    )
  }
}

type Tap = Pick<typeof t, 'strictSame' | 'equal' | 'match' | 'ok' | 'not' | 'notOk'>

t.test('alpine: SBOMs are valid, complete and the same for everyone', async (t) => {
  await good('all', ALPINE)
  const { stdout } = await good('sbom', ALPINE)
  t.match(stdout, /SBOM +kata-containers\.img +9 packages +\d+ files/)
  checkAll(t, [ROOTFS, IMAGE, INITRD])
  const expected = readTree(ROOTFS).filter(({ type }) => type === 'file')
  t.strictSame(filesOf(sbomOf(ROOTFS)), expected.map(({ path }) => `/${path}`).sort())
  t.strictSame(filesOf(sbomOf(ROOTFS), 'agent'), ['/sbin/init'])
  t.ok(filesOf(sbomOf(IMAGE), 'files-packer').includes('/etc/machine-id'))
  const other = { ...ALPINE, WORKDIR: join(scratch, 'other') }
  await good('image', other)
  await good('sbom', other)
  for (const ending of Object.values(DESCRIPTIONS)) {
    const theirs = readFileSync(join(other.WORKDIR, `kata-containers.img${ending}`), 'utf8')
    t.equal(readFileSync(`${IMAGE}${ending}`, 'utf8'), theirs, `${ending}: the same in another WORKDIR`)
  }
})

t.test('provenance names the output, what it was made from, and the settings that count', async (t) => {
  const statement = readJson(`${IMAGE}${DESCRIPTIONS.provenance}`)
  const digest = execFileSync('sha256sum', [IMAGE], { encoding: 'utf8' }).slice(0, 64)
  t.match(statement, {
    _type: 'https://in-toto.io/Statement/v1',
    subject: [{ name: 'kata-containers.img', digest: { sha256: digest } }],
    predicateType: 'https://slsa.dev/provenance/v1',
    predicate: {
      buildDefinition: {
        externalParameters: { target: 'image', distro: 'alpine', sourceDateEpoch: 1795000000 },
      },
      runDetails: { metadata: { startedOn: '2026-11-18T11:06:40Z' } },
    },
  })
  const text = JSON.stringify(statement)
  t.match(
    text,
    /"name":"index [^"]*","uri":"http:\/\/127\.0\.0\.1[^"]*","digest":\{"sha256":"[0-9a-f]{64}"\}/,
  )
  t.match(text, 'pkg:apk/alpine/busybox@1.37.0-r18')
  t.notMatch(text, scratch, 'no path of this machine')
})

t.test("what the user adds is told as the user's, and what is rebuilt drops its proofs", async (t) => {
  const mine = { ...ALPINE, WORKDIR: join(scratch, 'mine') }
  cpSync(join(scratch, 'other/cache'), join(mine.WORKDIR, 'cache'), { recursive: true })
  writeFileSync(join(mine.WORKDIR, '.osbuilder-workdir'), '')
  await good('image', mine)
  const rootfs = join(mine.WORKDIR, 'alpine_rootfs')
  writeFileSync(join(rootfs, 'etc/motd'), 'mine\n')
  appendFileSync(join(rootfs, 'etc/passwd'), 'me:x:1:1::/:/bin/sh\n')
  const stale = await good('sbom', mine)
  t.match(stale.said, /kata-containers\.img: its rootfs was changed since; make image packs it again/)
  t.notOk(existsSync(join(mine.WORKDIR, `kata-containers.img${DESCRIPTIONS.spdx}`)))
  t.strictSame(filesOf(sbomOf(rootfs), 'files-user'), ['/etc/motd', '/etc/passwd'])
  await good('image', mine)
  await good('sbom', mine)
  t.strictSame(filesOf(sbomOf(join(mine.WORKDIR, 'kata-containers.img')), 'files-user'), [
    '/etc/motd',
    '/etc/passwd',
  ])
  await good('image', { ...mine, ROOT_FREE_SPACE: '1' })
  t.notOk(
    existsSync(join(mine.WORKDIR, `kata-containers.img${DESCRIPTIONS.cyclonedx}`)),
    'it was of other bytes',
  )
  rmSync(mine.WORKDIR, { recursive: true })
})

t.test('debian: valid and complete, with licences, with the package database and without', async (t) => {
  const settings = { ...COMMON, DISTRO: 'debian', REPO_URL: debian.url, WORKDIR: join(scratch, 'debian') }
  const rootfs = join(settings.WORKDIR, 'debian_rootfs')
  const counts: number[] = []
  for (const KEEP_PACKAGE_DB of ['yes', 'no']) {
    await good('rootfs', { ...settings, KEEP_PACKAGE_DB })
    const { said } = await good('sbom', { ...settings, KEEP_PACKAGE_DB })
    t.notMatch(said, 'belong to nothing')
    checkAll(t, [rootfs])
    const packages = sbomOf(rootfs).components.filter(({ type }) => type === 'library')
    counts.push(packages.length)
    t.ok(packages.length > 100)
    t.strictSame(
      packages.filter(({ licenses }) => licenses === undefined).map(({ name }) => name),
      [],
    )
    const systemd = packages.find(({ name }) => name === 'systemd')
    t.match(systemd?.licenses?.[0]?.expression, 'LGPL-2.1-or-later')
  }
  t.equal(counts[0], counts[1])
  const { said, status } = await makeAsync('sbom', { ...settings, CACHE_DIR: join(scratch, 'empty') })
  t.equal(status, 2)
  t.match(said, 'the guest has no package database, and the cache has its base tree no more')
  rmSync(settings.WORKDIR, { recursive: true })
})

t.test('centos: valid and complete, by the database of rpm', async (t) => {
  const settings = {
    ...{ ...COMMON, DISTRO: 'centos', REPO_URL: centos.url, REPO_KEYRING: centos.keyring },
    ...{ EXTRA_PKGS: 'hello', WORKDIR: join(scratch, 'centos') },
  }
  const rootfs = join(settings.WORKDIR, 'centos_rootfs')
  await good('rootfs', settings)
  // Killed while rpm reads its copy of the database.
  const tools = join(scratch, 'tools')
  mkdirSync(tools)
  writeFileSync(join(tools, 'rpm'), '#!/bin/sh\nkill -KILL $PPID\n', { mode: 0o755 })
  const killed = await makeAsync('sbom', settings, ['env', `PATH=${tools}:${process.env['PATH'] ?? ''}`])
  t.match(killed.said, 'Killed')
  t.equal(leftovers(settings.WORKDIR).length, 1)
  const { said } = await good('sbom', settings)
  t.notMatch(said, 'belong to nothing')
  checkAll(t, [rootfs])
  const sbom = sbomOf(rootfs)
  t.strictSame(filesOf(sbom, 'rpm-hello-9-1.el9-x86_64'), ['/usr/share/hello'])
  const packages = sbom.components.filter(({ type }) => type === 'library')
  t.equal(packages.length, 13)
  for (const { name, licenses } of packages) t.equal(licenses?.[0]?.expression, 'GPL-2.0-or-later', name)
  await good('rootfs', { ...settings, KEEP_PACKAGE_DB: 'no' })
  t.strictSame(leftovers(settings.WORKDIR), [], 'and the next build removes what is left of it')
  rmSync(settings.WORKDIR, { recursive: true })
})

const KEYS = join(scratch, 'keys')
const KEY = join(KEYS, 'key')
const OTHER_KEY = join(KEYS, 'other')

t.test('signatures: made by either tool, checked with all that they cover', async (t) => {
  mkdirSync(KEYS)
  for (const key of [KEY, OTHER_KEY])
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', key])
  for (const key of ['mini', 'other-mini']) {
    const argv = ['-G', '-W', '-p', join(KEYS, `${key}.pub`), '-s', join(KEYS, `${key}.sec`)]
    execFileSync('minisign', argv, { stdio: 'ignore' })
  }
  await good('sign', { ...ALPINE, SIGN_KEY: join(KEYS, 'mini.sec') })
  await good('sign', { ...ALPINE, SIGN_KEY: KEY })
  for (const key of [join(KEYS, 'mini.pub'), `${KEY}.pub`]) {
    const { stdout } = await good('verify', { ...ALPINE, VERIFY_KEY: key })
    t.match(stdout, /VERIFY +kata-containers\.img +5 signatures of \S+ +\d+ files as described/)
    t.match(stdout, /VERIFY +kata-containers-initrd\.img +5 signatures/)
    t.match(stdout, /VERIFY +alpine_rootfs +4 signatures/)
  }
  const signers = join(KEYS, 'signers')
  writeFileSync(signers, `anna@example.invalid ${readFileSync(`${KEY}.pub`, 'utf8')}`)
  t.match(
    (await good('verify', { ...ALPINE, VERIFY_KEY: signers })).stdout,
    'signatures of anna@example.invalid',
  )
})

t.test('each reason to refuse is told', async (t) => {
  const refused = async (
    what: string,
    settings: Readonly<Record<string, string>>,
    said: RegExp,
  ): Promise<void> => {
    const ended = await makeAsync('verify', { ...ALPINE, VERIFY_KEY: `${KEY}.pub`, ...settings })
    t.not(ended.status, 0, what)
    t.match(ended.said, said, what)
    t.match(ended.said, /try: /, what)
  }
  const signers = join(KEYS, 'strangers')
  writeFileSync(signers, `ben@example.invalid ${readFileSync(`${OTHER_KEY}.pub`, 'utf8')}`)
  await refused(
    'unknown signer',
    { VERIFY_KEY: signers },
    /was signed by somebody whom VERIFY_KEY does not name/,
  )
  await refused(
    'wrong key',
    { VERIFY_KEY: `${OTHER_KEY}.pub` },
    /was signed by somebody whom VERIFY_KEY does not name/,
  )
  await refused(
    'wrong key of minisign',
    { VERIFY_KEY: join(KEYS, 'other-mini.pub') },
    /the signature is not good/,
  )
  await refused('no key', { VERIFY_KEY: '' }, /VERIFY_KEY: is not set; it names the key/)
  await refused('a secret key', { VERIFY_KEY: KEY }, /VERIFY_KEY=\S+: is a secret key/)
  await refused('no such key', { VERIFY_KEY: '/nowhere' }, /VERIFY_KEY=\/nowhere: no such file/)

  const changed = async (
    file: string,
    change: (bytes: Buffer) => Buffer,
    work: () => Promise<void>,
  ): Promise<void> => {
    const bytes = readFileSync(file)
    const { atime, mtime } = statSync(file)
    writeFileSync(file, change(Buffer.from(bytes)))
    await work()
    writeFileSync(file, bytes)
    utimesSync(file, atime, mtime)
  }
  const oneBit = (at: number) => (bytes: Buffer) => {
    bytes[at] = (bytes[at] ?? 0) ^ 1
    return bytes
  }
  const badSignature = /the signature is not good/
  await changed(IMAGE, oneBit(64 * 1024 * 1024), () => refused('tampered output', {}, badSignature))
  const otherwise = (bytes: Buffer): Buffer =>
    Buffer.from(bytes.toString().replace('"plain": false', '"plain": true'))
  await changed(`${INITRD}.json`, otherwise, () => refused('tampered manifest', {}, badSignature))
  await changed(
    `${INITRD}.json`,
    (bytes) => bytes.subarray(0, 300),
    () => refused('half a manifest', {}, /is cut short, or somebody changed it/),
  )
  await changed(`${IMAGE}${DESCRIPTIONS.spdx}`, oneBit(500), () => refused('tampered SBOM', {}, badSignature))
  await changed(`${IMAGE}${DESCRIPTIONS.provenance}`, oneBit(500), () =>
    refused('tampered provenance', {}, badSignature),
  )
  const signature = `${IMAGE}.sig`
  const kept = readFileSync(signature)
  rmSync(signature)
  await refused('missing signature', {}, /is not signed: kata-containers\.img\.sig is not there/)
  writeFileSync(signature, readFileSync(`${INITRD}.sig`))
  await refused("another file's signature", {}, badSignature)
  writeFileSync(signature, kept)

  // What a signer who is careless, or an attacker with the key, may have signed.
  const signed = async (file: string, change: (bytes: Buffer) => Buffer, said: RegExp): Promise<void> => {
    await changed(file, change, async () => {
      await good('sign', { ...ALPINE, SIGN_KEY: KEY })
      await refused(`signed: ${file}`, {}, said)
    })
  }
  await signed(IMAGE, oneBit(64 * 1024 * 1024), /is not what its manifest says/)
  await signed(
    join(ROOTFS, 'etc/group'),
    (bytes) => Buffer.concat([bytes, Buffer.from('x:x:9:\n')]),
    /another content: \/etc\/group/,
  )
  const forget = (bytes: Buffer): Buffer => {
    const sbom = JSON.parse(bytes.toString()) as { components: { name: string }[] }
    sbom.components = sbom.components.filter(({ name }) => name !== 'busybox')
    return Buffer.from(JSON.stringify(sbom))
  }
  await signed(`${INITRD}${DESCRIPTIONS.cyclonedx}`, forget, /not in the SBOM: \/bin\/busybox/)
  await signed(`${IMAGE}${DESCRIPTIONS.cyclonedx}`, forget, /not in the SBOM: \/bin\/busybox/)
  const ofOther = readFileSync(`${INITRD}${DESCRIPTIONS.spdx}`)
  await signed(`${IMAGE}${DESCRIPTIONS.spdx}`, () => ofOther, /SBOM or provenance is of another output/)

  const noKey = await makeAsync('sign', ALPINE)
  t.match(noKey.said, /SIGN_KEY: is not set/)
  t.match(
    (await makeAsync('sign', { ...ALPINE, SIGN_KEY: `${KEY}.pub` })).said,
    /SIGN_KEY=\S+: is a public key/,
  )
  const locked = join(KEYS, 'locked')
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', 'secret', '-f', locked])
  t.match((await makeAsync('sign', { ...ALPINE, SIGN_KEY: locked })).said, /use a key without passphrase/)
  await good('sign', { ...ALPINE, SIGN_KEY: KEY })
  await good('verify', { ...ALPINE, VERIFY_KEY: `${KEY}.pub` })
})

for (const target of ['rootfs', 'image', 'initrd']) {
  t.test(`repro: the ${target} is the same under every disturbance`, async (t) => {
    const { said } = await good('repro', { ...ALPINE, TARGET: target })
    t.match(said, /REPRO +\S+ +the same twice: sha256 [0-9a-f]{64}/)
    t.match(said, /another working directory and HOME/)
    if (process.getuid?.() === 0) t.match(said, /another uid/)
  })
}

t.test(
  'repro: an agent that remembers its build, and a file of the user, are named with their cause',
  async (t) => {
    const repository = join(scratch, 'agent')
    mkdirSync(repository)
    const makefile = [
      'all:',
      '\tprintf "#!/bin/sh\\n# built at %s\\n# in %s\\n" "$$(date +%s)" "$$(pwd)" > agent',
      'install:',
      '\tinstall -D -m 755 agent $(DESTDIR)/usr/bin/kata-agent',
      '',
    ]
    writeFileSync(join(repository, 'Makefile'), makefile.join('\n'))
    const git = (...argv: string[]) =>
      execFileSync('git', ['-C', repository, '-c', 'user.name=a', '-c', 'user.email=a', ...argv])
    git('init', '--quiet')
    git('add', '.')
    git('commit', '--quiet', '--message=agent')
    // The second build is somebody else, who must get at it.
    execFileSync('chmod', ['755', scratch])
    const settings = { ...ALPINE, WORKDIR: join(scratch, 'remembers'), AGENT_REPO: repository }
    const { status, said } = await makeAsync('repro', settings)
    t.equal(status, 2, said)
    t.match(said, 'TARGET=image: the second build gave other bytes')
    t.match(
      said,
      /\/sbin\/init: content at offset \d+: first \d+ bytes, .*it is of: guest agent; likely cause: it names a folder of the build .*time of the build/,
    )
    writeFileSync(join(settings.WORKDIR, 'alpine_rootfs/etc/motd'), 'mine\n')
    t.match(
      (await makeAsync('repro', { ...settings, TARGET: 'initrd' })).said,
      /\/etc\/motd: presence: first a file, second not there; it is of: added by the user; likely cause: it was added after the build/,
    )
  },
)
