// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

import { sha256 } from '../../scripts/digest.ts'
import { readTree } from '../../scripts/tree.ts'
import type { TreeEntry } from '../../scripts/tree.ts'
import { withXattrs } from '../../scripts/xattrs.ts'
import { NORMAL_USER, PROJECT, asNormalUser, bootCache, make, step } from './user.ts'
import type { Ended } from './user.ts'

t.setTimeout(20 * 60 * 1000)

const MIB = 1024 * 1024
const TYPES = ['ext4', 'xfs', 'erofs', 'squashfs'] as const
type Type = (typeof TYPES)[number]

const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
t.teardown(() => {
  rmSync(scratch, { recursive: true, force: true })
})

const EPOCH = '1795000000'
/** A tree with what is hard to pack, built by root. */
const NASTY = join(scratch, 'nasty')
const ARCHIVE = join(scratch, 'nasty.tar')
const GOOD = {
  WORKDIR: join(scratch, 'work'),
  ROOTFS_DIR: NASTY,
  SKIP_ROOTFS_CHECK: 'yes',
  SOURCE_DATE_EPOCH: EPOCH,
  IMAGE_SIZE_ALIGNMENT_MB: '1',
}

/** Content without chance, of which some repeats. */
function prose(length: number): Buffer {
  const words = Array.from({ length: length / 8 }, (_, index) => sha256(String(index % 977)).slice(0, 8))
  return Buffer.from(words.join(''))
}

function noise(length: number): Buffer {
  const parts = Array.from({ length: length / 32 }, (_, index) =>
    Buffer.from(sha256(`noise ${String(index)}`), 'hex'),
  )
  return Buffer.concat(parts)
}

function makeNasty(root: string): void {
  mkdirSync(join(root, 'etc'), { recursive: true })
  mkdirSync(join(root, 'empty'))
  mkdirSync(join(root, 'many'))
  mkdirSync(join(root, 'a b', 'c:d'), { recursive: true })
  for (let number = 0; number < 1200; number++)
    writeFileSync(join(root, 'many', `a longer name, ${String(number)}`), String(number))
  writeFileSync(join(root, 'etc/none'), '')
  writeFileSync(join(root, 'etc/short'), 'a few words\n')
  writeFileSync(join(root, 'etc/block'), prose(4096))
  writeFileSync(join(root, 'etc/beyond'), prose(4104))
  writeFileSync(join(root, 'prose'), prose(9 * MIB + 4 * 1024 + 8))
  writeFileSync(join(root, 'noise'), noise(300 * 1024))
  writeFileSync(
    join(root, 'mixed'),
    Buffer.concat([noise(10_016), prose(50_000), noise(4096), prose(10_000)]),
  )
  writeFileSync(join(root, 'hole'), '')
  truncateSync(join(root, 'hole'), 3 * MIB + 5)
  writeFileSync(join(root, 'a b', ':colon first'), 'x')
  writeFileSync(join(root, 'a b', 'c:d', 'two\nlines'), 'y')
  writeFileSync(join(root, `${'Főtanúsítvány'.repeat(14)}.pem`), 'z')
  linkSync(join(root, 'etc/block'), join(root, 'a b', 'second name'))
  linkSync(join(root, 'etc/block'), join(root, 'third'))
  symlinkSync('nowhere', join(root, 'dangling'))
  symlinkSync(`/${'long/'.repeat(60)}`, join(root, 'far'))
  writeFileSync(join(root, 'setuid'), '#!', { mode: 0o755 })
  execFileSync('chown', ['-h', '1000:2000', join(root, 'setuid'), join(root, 'dangling'), join(root, 'a b')])
  chmodSync(join(root, 'setuid'), 0o6755)
  chmodSync(join(root, 'empty'), 0o1777)
  chmodSync(join(root, 'etc/short'), 0)
  execFileSync('mkfifo', [join(root, 'fifo')])
  execFileSync('setfattr', ['-n', 'user.colour', '-v', 'blue', join(root, 'prose')])
  execFileSync('setfattr', [
    '-n',
    'security.capability',
    '-v',
    '0x0100000200200000000000000000000000000000',
    join(root, 'setuid'),
  ])
  execFileSync('setfattr', [
    '-n',
    'system.posix_acl_access',
    '-v',
    '0x0200000001000700ffffffff04000500ffffffff080005000400000010000500ffffffff20000500ffffffff',
    join(root, 'many'),
  ])
  execFileSync('find', [root, '-newermt', `@${EPOCH}`, '-exec', 'touch', '-h', '-d', `@${EPOCH}`, '{}', '+'])
  execFileSync('touch', ['-h', '-d', '@86400', join(root, 'noise'), join(root, 'dangling')])
}

t.before(() => {
  makeNasty(NASTY)
  execFileSync('tar', ['--xattrs', '--xattrs-include=*', '-C', NASTY, '-cf', ARCHIVE, '.'])
  execFileSync('mknod', [join(NASTY, 'device'), 'b', '259', '300'])
  execFileSync('touch', ['-d', `@${EPOCH}`, join(NASTY, 'device'), NASTY])
  // A normal user builds in it too.
  chmodSync(scratch, 0o755)
})

async function build(
  settings: Readonly<Record<string, string>>,
  name: string,
): Promise<Ended & { readonly file: string }> {
  const file = join(scratch, name)
  const outcome = await step('image', { ...GOOD, ...settings }, ['-o', file])
  return { ...outcome, file }
}

interface Manifest {
  readonly result: {
    readonly sha256: string
    readonly sizeBytes: number
    readonly filesystem: { readonly offsetBytes: number; readonly sizeBytes: number; readonly uuid: string }
    readonly verity?: Readonly<Record<string, string | number>>
  }
}

function manifestOf(file: string): Manifest['result'] {
  return (JSON.parse(readFileSync(`${file}.json`, 'utf8')) as Manifest).result
}

/** The filesystem of an image, in a file of its own. */
function partitionOf(file: string): string {
  const { offsetBytes, sizeBytes } = manifestOf(file).filesystem
  const cut = `${file}.fs`
  const place = ['iflag=skip_bytes,count_bytes', `skip=${String(offsetBytes)}`, `count=${String(sizeBytes)}`]
  execFileSync('dd', ['status=none', 'conv=sparse', 'bs=1M', `if=${file}`, `of=${cut}`, ...place])
  return cut
}

const CHECKS: Readonly<Record<Type, (file: string) => readonly string[]>> = {
  ext4: (file) => ['e2fsck', '-fn', file],
  xfs: (file) => ['xfs_repair', '-f', '-n', file],
  erofs: (file) => ['fsck.erofs', file],
  squashfs: (file) => ['unsquashfs', '-s', file],
}

function isClean(t: Test, type: Type, image: string): void {
  const [tool = '', ...argv] = CHECKS[type](partitionOf(image))
  const { status, stdout, stderr } = spawnSync(tool, argv, { encoding: 'utf8' })
  t.equal(status, 0, `${tool}: ${stdout}${stderr}`)
  // It ends well whatever it finds.
  if (type === 'xfs') t.notMatch(stderr, /would|bad|corrupt|mismatch(?! between)/i)
}

for (const type of TYPES) {
  t.test(`${type}: two builds give the same bytes, and its own tool finds no fault`, async (t) => {
    const first = await build({ FS_TYPE: type }, `${type}-1.img`)
    t.equal(first.status, 0, first.said)
    const elsewhere = {
      FS_TYPE: type,
      WORKDIR: join(scratch, 'other'),
      TZ: 'Asia/Tokyo',
      LANG: 'de_DE.UTF-8',
    }
    // The times of another second must not get in.
    await new Promise((resolve) => setTimeout(resolve, 1100))
    const second = await build(elsewhere, `${type}-2.img`)
    t.equal(second.status, 0, second.said)
    t.equal(sha256(readFileSync(first.file)), manifestOf(first.file).sha256, 'the manifest tells the digest')
    t.equal(manifestOf(second.file).sha256, manifestOf(first.file).sha256)
    isClean(t, type, first.file)
  })
}

t.test('a normal user builds the same bytes', async (t) => {
  const home = join(scratch, 'home')
  mkdirSync(home)
  asNormalUser(home, {})
  cpSync(ARCHIVE, join(home, 'nasty.tar'))
  const script = [
    'set -eu; cd "$1"; mkdir tree; tar --xattrs --xattrs-include="*" -xpf nasty.tar -C tree',
    `export WORKDIR="$1/work" ROOTFS_DIR="$1/tree" SKIP_ROOTFS_CHECK=yes SOURCE_DATE_EPOCH=${EPOCH} IMAGE_SIZE_ALIGNMENT_MB=1`,
    `for type in ${TYPES.join(' ')}; do FS_TYPE=$type node project/build/image-builder/image.js -o "$1/$type.img"; done`,
    'rm -r tree',
  ].join('\n')
  const ids = ['--reuid', NORMAL_USER, '--regid', NORMAL_USER, '--init-groups']
  const namespace = ['unshare', '--user', '--map-root-user', '--map-auto', '--']
  const { status, stdout, stderr } = spawnSync(
    'setpriv',
    [...ids, ...namespace, 'bash', '-c', script, 'bash', home],
    {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'] },
    },
  )
  t.equal(status, 0, `${stdout}${stderr}`)
  // A user makes no device nodes: root packs the same tree without the one.
  const tree = join(scratch, 'without-device')
  mkdirSync(tree)
  execFileSync('tar', ['--xattrs', '--xattrs-include=*', '-xpf', ARCHIVE, '-C', tree])
  for (const type of TYPES) {
    const { status, said, file } = await build({ FS_TYPE: type, ROOTFS_DIR: tree }, `root-${type}.img`)
    t.equal(status, 0, said)
    t.equal(manifestOf(join(home, `${type}.img`)).sha256, manifestOf(file).sha256, type)
  }
})

type Fact = readonly (string | number | undefined)[]

/** What a tree holds; without `details`, what a tool that unpacks less of it leaves. */
async function factsOf(root: string, details: boolean): Promise<Map<string, Fact>> {
  const entries = await withXattrs(root, readTree(root))
  const links = new Map<string, string>()
  return new Map(
    entries.map((entry): [string, Fact] => {
      const { path, type, mode, uid, gid, mtimeSeconds, rdevMajor, rdevMinor, linkTarget, linkGroup } = entry
      if (linkGroup !== undefined && !links.has(linkGroup)) links.set(linkGroup, path)
      const content = typeof entry.source === 'string' ? sha256(readFileSync(entry.source)) : ''
      // fsck.erofs 1.5 gives a file its owner after its mode, which takes these bits away.
      const bits = details ? mode : mode & 0o171777
      const plain = [type, bits.toString(8), uid, gid, linkTarget, content]
      const more = [mtimeSeconds, rdevMajor, rdevMinor, links.get(linkGroup ?? ''), xattrsOf(entry)]
      return [path, details ? [...plain, ...more] : plain]
    }),
  )
}

/** SquashFS has no way to store access control lists, which the step tells. */
function xattrsOf({ xattrs }: TreeEntry): string {
  const stored = [...(xattrs ?? [])].filter(([name]) => !name.startsWith('system.'))
  return stored.map(([name, value]) => `${name}=${Buffer.from(value).toString('hex')}`).join(' ')
}

for (const [type, argv, details] of [
  [
    'squashfs',
    (image: string, to: string) => ['unsquashfs', '-quiet', '-no-progress', '-xattrs', '-dest', to, image],
    true,
  ],
  ['erofs', (image: string, to: string) => ['fsck.erofs', '--preserve', `--extract=${to}`, image], false],
] as const) {
  t.test(`${type}: what is unpacked is what was packed, compressed or not`, async (t) => {
    const packed = await factsOf(NASTY, details)
    for (const compression of ['default', 'none', 'lz4']) {
      const { status, said, file } = await build(
        { FS_TYPE: type, FS_COMPRESSION: compression },
        `${type}.img`,
      )
      t.equal(status, 0, said)
      if (type === 'squashfs')
        t.match(said, 'squashfs stores no access control lists: lost are those of /many')
      isClean(t, type, file)
      const to = join(scratch, `out-${type}-${compression}`)
      const [tool = '', ...words] = argv(partitionOf(file), to)
      const outcome = spawnSync(tool, words, { encoding: 'utf8' })
      t.equal(outcome.status, 0, outcome.stderr)
      const found = await factsOf(to, details)
      t.ok(found.has('dev/console') && found.has('etc/machine-id'), 'what every guest has is added')
      for (const [path, fact] of packed) t.strictSame(found.get(path), fact, path)
      rmSync(to, { recursive: true })
    }
  })
}

t.test(
  'a measured image: the tree is the one veritysetup makes, and both tables lead to both partitions',
  async (t) => {
    for (const type of TYPES) {
      const { status, said, file } = await build(
        { FS_TYPE: type, MEASURED_ROOTFS: 'yes', BUILD_VARIANT: type },
        `${type}-m.img`,
      )
      t.equal(status, 0, said)
      const { verity = {}, sizeBytes } = manifestOf(file)
      const { rootHash, salt, dataBlocks, dataOffsetBytes, dataBytes, treeOffsetBytes } = verity
      const line = `root_hash=${String(rootHash)},salt=${String(salt)},data_blocks=${String(dataBlocks)},data_block_size=4096,hash_block_size=4096\n`
      t.equal(readFileSync(join(scratch, `root_hash_${type}.txt`), 'utf8'), line)
      isClean(t, type, file)
      const data = `${file}.data`
      execFileSync('dd', [
        'status=none',
        'bs=1M',
        'iflag=skip_bytes',
        `if=${file}`,
        `of=${data}`,
        `skip=${String(dataOffsetBytes)}`,
      ])
      const options = ['--no-superblock', `--data-blocks=${String(dataBlocks)}`, `--salt=${String(salt)}`]
      const again = execFileSync('veritysetup', ['format', ...options, data, `${file}.tree`], {
        encoding: 'utf8',
      })
      t.match(again, String(rootHash))
      const within = [...options, `--hash-offset=${String(dataBytes)}`]
      const verified = spawnSync('veritysetup', ['verify', ...within, data, data, String(rootHash)], {
        encoding: 'utf8',
      })
      t.equal(verified.status, 0, verified.stderr)
      for (const skip of [0, 2 * MIB]) {
        const record = readFileSync(file).subarray(skip, skip + 512)
        const places = [446, 462].map((at) => [
          skip + record.readUInt32LE(at + 8) * 512,
          record.readUInt32LE(at + 12) * 512,
        ])
        t.strictSame(places, [
          [dataOffsetBytes, dataBytes],
          [treeOffsetBytes, sizeBytes - Number(treeOffsetBytes)],
        ])
      }
    }
  },
)

t.test('the root hash is signed with a key, made with a salt, and removed with its image', async (t) => {
  const [key, cert] = [join(scratch, 'verity.key'), join(scratch, 'verity.crt')]
  const pair = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1', '-subj', '/CN=test']
  execFileSync('openssl', [...pair, '-keyout', key, '-out', cert], { stdio: 'ignore' })
  const settings = {
    FS_TYPE: 'erofs',
    MEASURED_ROOTFS: 'yes',
    VERITY_SALT: 'c0ffee',
    VERITY_KEY: key,
    VERITY_CERT: cert,
  }
  const signed = await build(settings, 'signed.img')
  t.equal(signed.status, 0, signed.said)
  const verity = manifestOf(signed.file).verity ?? {}
  t.equal(verity['salt'], 'c0ffee')
  const text = join(scratch, 'hash')
  writeFileSync(text, String(verity['rootHash']))
  const check = [
    'smime',
    '-verify',
    '-inform',
    'der',
    '-in',
    join(scratch, 'root_hash_.p7s'),
    '-content',
    text,
  ]
  const checked = spawnSync('openssl', [...check, '-certfile', cert, '-noverify', '-binary'], {
    encoding: 'utf8',
  })
  t.equal(checked.status, 0, checked.stderr)
  t.match((await build(settings, 'signed.img')).stdout, 'unchanged')
  rmSync(join(scratch, 'root_hash_.txt'))
  t.match(
    (await build(settings, 'signed.img')).stdout,
    /VERITY +root_hash_\.txt/,
    'what is missing is made again',
  )
  const other = await build({ ...settings, VERITY_SALT: 'c0ffef' }, 'signed.img')
  t.not(manifestOf(other.file).verity?.['rootHash'], verity['rootHash'])
  t.equal((await build({ FS_TYPE: 'erofs' }, 'signed.img')).status, 0)
  t.notOk(existsSync(join(scratch, 'root_hash_.txt')))
  t.notOk(existsSync(join(scratch, 'root_hash_.p7s')))
})

t.test('what cannot be is one clear error, and leaves nothing', async (t) => {
  const [garbage, key, otherCert] = ['garbage', 'a.key', 'b.crt'].map((name) => join(scratch, name)) as [
    string,
    string,
    string,
  ]
  writeFileSync(garbage, 'no key')
  const pair = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1', '-subj', '/CN=test']
  execFileSync('openssl', [...pair, '-keyout', key, '-out', join(scratch, 'a.crt')], { stdio: 'ignore' })
  execFileSync('openssl', [...pair, '-keyout', join(scratch, 'b.key'), '-out', otherCert], {
    stdio: 'ignore',
  })
  const workdir = join(scratch, 'kernel')
  mkdirSync(workdir)
  writeFileSync(join(workdir, '.osbuilder-workdir'), '')
  writeFileSync(join(workdir, 'vmlinuz.container'), '')
  const kernel = { format: 'osbuilder-manifest-1', result: { release: '6.1.0' } }
  writeFileSync(join(workdir, 'vmlinuz.container.json'), JSON.stringify(kernel))
  writeFileSync(
    join(workdir, 'config-6.1.0'),
    'CONFIG_SQUASHFS=y\nCONFIG_EROFS_FS=m\nCONFIG_EROFS_FS_ZIP=y\n',
  )
  const odd = join(scratch, 'odd')
  mkdirSync(odd)
  symlinkSync('a b', join(odd, 'link'))
  const measured = { FS_TYPE: 'erofs', MEASURED_ROOTFS: 'yes' }
  for (const [settings, said] of [
    [{ FS_TYPE: 'ext3' }, 'FS_TYPE=ext3: expected ext4, xfs, erofs or squashfs'],
    [
      { FS_TYPE: 'erofs', FS_COMPRESSION: 'zstd' },
      'FS_COMPRESSION=zstd: of erofs expected lz4hc, lz4 or none',
    ],
    [{ FS_COMPRESSION: 'lz4' }, 'FS_COMPRESSION=lz4: ext4 has no compression'],
    [{ FS_TYPE: 'xfs', BLOCK_SIZE: '1024' }, 'BLOCK_SIZE=1024: of xfs expected 4096'],
    [{ FS_TYPE: 'xfs', IMG_SIZE: '100' }, 'IMG_SIZE=100: the rootfs does not fit'],
    [{ FS_TYPE: 'xfs', ROOTFS_DIR: odd }, 'link: mkfs.xfs cannot make a link to a b'],
    [{ FS_UUID: '12' }, 'FS_UUID=12: expected a UUID'],
    [{ VERITY_SALT: 'xyz' }, 'VERITY_SALT=xyz: expected an even number of hex digits'],
    [{ VERITY_KEY: key, VERITY_CERT: otherCert }, 'VERITY_KEY='],
    [{ ...measured, VERITY_KEY: key }, 'needs its certificate, VERITY_CERT'],
    [
      { ...measured, VERITY_KEY: garbage, VERITY_CERT: otherCert },
      `VERITY_KEY=${garbage}: openssl cannot read it`,
    ],
    [{ ...measured, VERITY_KEY: key, VERITY_CERT: otherCert }, 'is not the certificate of VERITY_KEY'],
    [{ ...measured, VERITY_KEY: join(scratch, 'gone'), VERITY_CERT: otherCert }, 'gone: no such file'],
    [{ FS_TYPE: 'squashfs', WORKDIR: workdir }, 'CONFIG_SQUASHFS_ZSTD: is not built in'],
    [{ FS_TYPE: 'erofs', WORKDIR: workdir }, 'CONFIG_EROFS_FS: is not built in'],
    [{ FS_TYPE: 'squashfs', WORKDIR: workdir, MEASURED_ROOTFS: 'yes' }, 'CONFIG_DM_INIT: is not built in'],
  ] as const) {
    const refused = await build(settings, 'refused.img')
    t.not(refused.status, 0, said)
    t.match(refused.said, said)
    t.notMatch(refused.said, 'this is a bug')
    t.notOk(
      readdirSync(scratch).some((name) => name.includes('refused')),
      'nothing is left',
    )
  }
  const ignored = await build({ FS_TYPE: 'erofs', ROOT_FREE_SPACE: '5' }, 'ignored.img')
  t.equal(ignored.status, 0)
  t.match(ignored.said, 'ROOT_FREE_SPACE=5: erofs is read-only and has no free space')
})

/** Base tree and boot kernel are those of the boots, in whatever order the tests run. */
const BOOT = {
  DISTRO: 'debian',
  AGENT_INIT: 'yes',
  WORKDIR: join(PROJECT, 'workdir', 'test-formats'),
  CACHE_DIR: bootCache(),
  SOURCE_DATE_EPOCH: EPOCH,
  BOOT_TIMEOUT: '300',
}

/** Everything below /nasty as the guest's kernel shows it, extended attributes by the system call. */
const LISTING = [
  "cd /nasty && find . -printf '%p|%y|%m|%U|%G|%n|%T@|%l|' -exec perl -e",
  `'for (qw(user.colour security.capability system.posix_acl_access)) { my $v = "\\0" x 200;`,
  'my $n = syscall(192, "$ARGV[0]\\0", "$_\\0", $v, 200); print "$_=", unpack("H*", substr($v, 0, $n)) if $n > 0 }',
  `print "\\n"' '{}' ';' | LC_ALL=C sort`,
].join(' ')

t.test('the guest sees what was packed, in every filesystem', async (t) => {
  const built = make('rootfs', BOOT)
  t.equal(built.status, 0, built.said)
  const tree = join(scratch, 'guest')
  execFileSync('cp', ['-a', join(BOOT.WORKDIR, 'debian_rootfs'), tree])
  execFileSync('cp', ['-a', NASTY, join(tree, 'nasty')])
  // Names by the thousand would take the guest a process each.
  rmSync(join(tree, 'nasty/many'), { recursive: true })
  execFileSync('touch', ['-d', `@${EPOCH}`, join(tree, 'nasty')])
  const expected = execFileSync('bash', ['-c', LISTING.replace('/nasty', join(tree, 'nasty'))], {
    encoding: 'utf8',
  })
  const sums = 'find . -xdev -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum'
  const digest = execFileSync('bash', ['-c', `cd ${tree}/usr && ${sums}`], { encoding: 'utf8' })
  for (const type of ['xfs', 'erofs', 'squashfs']) {
    const settings = {
      ...BOOT,
      FS_TYPE: type,
      ROOTFS_DIR: tree,
      FS_COMPRESSION: type === 'squashfs' ? 'lz4' : 'default',
    }
    const image = make('pack-image', settings)
    t.equal(image.status, 0, image.said)
    const command = `${LISTING}; cd /usr && ${sums}; grep ' / ' /proc/mounts`
    const booted = await step('boot', { ...settings, BOOT: 'image', BOOT_COMMAND: command })
    t.equal(booted.status, 0, booted.said)
    t.match(booted.said, /Linux 6\.1\.\S+-cloud/, "the kernel is Debian's")
    const shown =
      type === 'squashfs' ? expected.replaceAll(/system\.posix_acl_access=[0-9a-f]*/g, '') : expected
    t.ok(booted.stdout.includes(shown), `${type}: ${booted.stdout.slice(0, 4000)}`)
    t.ok(booted.stdout.includes(digest), 'every file of /usr is as it was')
    t.match(booted.stdout, new RegExp(`^/dev/vda1 / ${type} ro`, 'm'))
  }
  const measured = { ...BOOT, FS_TYPE: 'erofs', ROOTFS_DIR: tree, MEASURED_ROOTFS: 'yes' }
  t.equal(make('pack-image', measured).status, 0)
  const refused = await step('boot', { ...measured, BOOT: 'image' })
  t.not(refused.status, 0)
  t.match(refused.said, 'CONFIG_DM_INIT: is not built in')
  t.match(refused.said, 'make kernel KERNEL_VARIANT=measured')
})
