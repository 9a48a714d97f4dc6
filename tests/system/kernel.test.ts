// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  lstatSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

import { FOREIGN_WORKDIR, PROJECT, bootCache, make, makeAsync, step } from './user.ts'
import type { Ended } from './user.ts'

/**
 * Kept between runs: a kernel is compiled again only when something that makes it changed. Sources,
 * objects and what ccache knows are in it, so a change costs what it touches.
 */
const WORKDIR = join(PROJECT, 'workdir', 'test-kernel')
const FOREIGN = join(PROJECT, 'workdir', 'test-kernel-aarch64')

const COMMON = {
  DISTRO: 'debian',
  WORKDIR,
  SOURCE_DATE_EPOCH: '1795000000',
  INITRD_COMPRESSION: 'zstd',
  BOOT_TIMEOUT: '300',
}

t.setTimeout(85 * 60 * 1000)

function boots(t: Test, settings: Readonly<Record<string, string>>): Ended {
  const booted = make('boot', { ...COMMON, ...settings })
  t.equal(booted.status, 0, booted.said)
  t.match(booted.stdout, /BOOT +agent ready in [0-9.]+ s \((TCG|KVM)\)\n$/)
  t.match(booted.said, /Linux 6\.1\.\d+(-firecracker)?(-measured)? /, 'the kernel is the one built here')
  return booted
}

function failing(settings: Readonly<Record<string, string>>, target: string = 'kernel'): Ended {
  return make(target, { ...COMMON, ...settings })
}

/** A measured image and what of it is changed, each with what the guest's kernel says of it. */
const TAMPERED = [
  ['a bit of the data', 'data block 0 is corrupted', (facts) => ({ flip: facts.dataOffsetBytes + 1024 })],
  ['a bit of the tree', 'metadata block 0 is corrupted', (facts) => ({ flip: facts.treeOffsetBytes + 10 })],
  ['a digit of the root hash', 'metadata block 0 is corrupted', () => ({ hash: true })],
] as const satisfies readonly [string, string, (facts: VerityPlaces) => { flip?: number; hash?: boolean }][]

interface VerityPlaces {
  readonly rootHash: string
  readonly dataOffsetBytes: number
  readonly treeOffsetBytes: number
}

const MEASURED = {
  ...COMMON,
  FS_TYPE: 'erofs',
  MEASURED_ROOTFS: 'yes',
  IMAGES_BUILD_DEST: join(WORKDIR, 'measured'),
  BOOT: 'image',
}

const MICROVM = { KERNEL_VARIANT: 'firecracker measured', BOOT_MACHINE: 'microvm' }

const AARCH64 = { ...COMMON, WORKDIR: FOREIGN, ARCH: 'aarch64', AGENT_INIT: 'yes' }

/**
 * Kernels that are compiled while others boot: an emulated guest keeps one processor busy, and waits.
 * A test awaits its own before it asks anything of the sources, which one build at a time may use.
 */
const compiling: { microvm?: Promise<Ended>; aarch64?: Promise<Ended> } = {}

async function compiled(t: Test, build: Promise<Ended> | undefined): Promise<void> {
  const built = await build
  t.equal(built?.status, 0, built?.said ?? 'it was never begun')
}

t.test("the default kernel is built from Debian's sources, once", (t) => {
  const built = make('kernel', COMMON)
  t.equal(built.status, 0, built.said)
  t.notMatch(built.said, '\r', 'plain lines where there is no terminal')
  const manifest = JSON.parse(readFileSync(join(WORKDIR, 'vmlinuz.container.json'), 'utf8')) as {
    result: { release: string; files: string[] }
  }
  t.match(manifest.result.release, /^6\.1\.\d+$/)
  for (const file of manifest.result.files) t.ok(statSync(join(WORKDIR, file)).size > 0, file)
  const before = statSync(join(WORKDIR, 'vmlinuz.container')).mtimeMs
  const again = make('kernel', COMMON)
  t.match(again.stdout, /KERNEL +6\.1\.\d+ x86_64 +unchanged/)
  t.equal(statSync(join(WORKDIR, 'vmlinuz.container')).mtimeMs, before)
  compiling.microvm = makeAsync('kernel', { ...COMMON, ...MICROVM })
  t.end()
})

t.test('it boots the image directly: from a disk, from an NVDIMM, and on the small machine', (t) => {
  const image = make('image', { ...COMMON, CACHE_DIR: bootCache() })
  t.equal(image.status, 0, image.said)
  const quiet =
    'test -z "`systemctl --failed --no-legend`" && test ! -e /.osbuilder-boot && grep " / " /proc/mounts'
  const disk = boots(t, { BOOT: 'image', BOOT_COMMAND: quiet })
  t.match(disk.stdout, '/dev/root / ext4')
  const root = 'echo root on `lsblk -ndo NAME,TYPE` `ls -d /sys/block/pmem0/pmem0p1`'
  const memory = boots(t, {
    BOOT: 'image',
    BOOT_DISK: 'nvdimm',
    KERNEL_CMDLINE: 'rootflags=dax',
    BOOT_COMMAND: `${root} && grep " / " /proc/mounts`,
  })
  t.match(memory.stdout, '/sys/block/pmem0/pmem0p1')
  t.match(memory.stdout, /\/dev\/root \/ ext4 .*\bdax\b/, 'pages of the image are not copied')
  boots(t, { BOOT: 'image', BOOT_MACHINE: 'microvm' })
  t.end()
})

t.test('it boots the initrd', (t) => {
  const initrd = make('initrd', { ...COMMON, CACHE_DIR: bootCache() })
  t.equal(initrd.status, 0, initrd.said)
  const booted = boots(t, { BOOT: 'initrd' })
  t.match(booted.said, 'PID 1 is systemd')
  t.end()
})

t.test('a measured image boots directly, and not when a bit of it is another', async (t) => {
  const image = make('image', { ...MEASURED, CACHE_DIR: bootCache() })
  t.equal(image.status, 0, image.said)
  for (const disk of ['virtio-blk', 'nvdimm']) {
    const command = 'grep " / " /proc/mounts; cat /sys/block/dm-0/dm/name'
    const booted = boots(t, { ...MEASURED, BOOT_DISK: disk, BOOT_COMMAND: command })
    t.match(booted.stdout, '/dev/root / erofs ro')
    t.match(booted.stdout, /^dm-verity$/m)
  }
  const file = join(MEASURED.IMAGES_BUILD_DEST, 'kata-containers.img')
  const manifest = readFileSync(`${file}.json`, 'utf8')
  const { verity } = (JSON.parse(manifest) as { result: { verity: VerityPlaces } }).result
  for (const [what, said, changeOf] of TAMPERED) {
    const change: { flip?: number; hash?: boolean } = changeOf(verity)
    const copy = join(t.testdir(), 'kata-containers.img')
    cpSync(file, copy)
    const other = `${verity.rootHash.startsWith('0') ? '1' : '0'}${verity.rootHash.slice(1)}`
    writeFileSync(
      `${copy}.json`,
      change.hash === true ? manifest.replaceAll(verity.rootHash, other) : manifest,
    )
    if (change.flip !== undefined) flipBit(copy, change.flip)
    // By the step: make would build the image again, which somebody changed.
    const booted = await step('boot', { ...MEASURED, BOOT_TIMEOUT: '120' }, [copy])
    t.not(booted.status, 0, what)
    t.match(booted.said, said)
    t.match(booted.said, 'dm-verity device corrupted')
    t.match(booted.said, 'the guest ended before the agent was ready')
  }
})

function flipBit(file: string, place: number): void {
  const bytes = readFileSync(file)
  bytes[place] = (bytes[place] ?? 0) ^ 1
  writeFileSync(file, bytes)
}

t.test('the variants firecracker and measured, in one kernel, boot where there is no PCI', async (t) => {
  // Each is most of a kernel to compile, so one is compiled with both; that each can be configured
  // alone is checked.
  await compiled(t, compiling.microvm)
  for (const variant of ['firecracker', 'measured']) {
    const configured = make('kernel-config', { ...COMMON, KERNEL_VARIANT: variant })
    t.equal(configured.status, 0, configured.said)
  }
  compiling.aarch64 = makeAsync('kernel', AARCH64)
  for (const image of [{ ...COMMON, BOOT: 'image' }, MEASURED]) {
    const booted = boots(t, { ...image, ...MICROVM, BOOT_COMMAND: 'ls /sys/bus /sys/block' })
    t.notMatch(booted.stdout, /^pci$/m)
    t.match(booted.said, '-firecracker-measured')
    if (image === MEASURED) t.match(booted.stdout, /^dm-0$/m)
  }
})

t.test('it is installed by the names of upstream, and its links are replaced whole', (t) => {
  const root = t.testdir()
  const settings = { ...COMMON, DESTDIR: root, PREFIX: '/opt/kata' }
  const folder = join(root, 'opt/kata/share/kata-containers')
  for (let round = 0; round < 2; round += 1) {
    const installed = make('install-kernel', settings)
    t.equal(installed.status, 0, installed.said)
    t.match(readlinkSync(join(folder, 'vmlinuz.container')), /^vmlinuz-6\.1\.\d+-\d+$/)
    t.ok(lstatSync(join(folder, 'vmlinux.container')).isSymbolicLink())
    t.ok(existsSync(join(folder, 'vmlinux.container')), 'it leads somewhere')
  }
  const config = readlinkSync(join(folder, 'vmlinuz.container')).replace('vmlinuz', 'config')
  t.match(make('kernel-diff', { A: join(folder, config), B: join(folder, config) }).stdout, 'mean the same')
  t.match(failing({ KERNEL_VARIANT: 'lcow', DESTDIR: root }, 'install-kernel').said, 'no kernel to install')
  t.end()
})

t.test('what cannot be is one clear error, and the kernel that is there stays', (t) => {
  const before = statSync(join(WORKDIR, 'vmlinuz.container')).mtimeMs
  const folder = t.testdir({ 'a.conf': '# lists of rights\nCONFIG_BTRFS_FS_POSIX_ACL=y\n' })
  const unmet = failing({ KERNEL_FRAGMENTS: folder })
  t.not(unmet.status, 0)
  t.match(unmet.said, `${folder}/a.conf:2: CONFIG_BTRFS_FS_POSIX_ACL=y: needs BTRFS_FS, which is n`)

  const stale = t.testdir({
    'a.conf': '# why\nCONFIG_SMP=y\n',
    'exceptions.list': '# why\nCONFIG_SMP unmet\n',
  })
  t.match(
    failing({ KERNEL_FRAGMENTS: stale }).said,
    'exceptions.list:2: CONFIG_SMP: is met here, so the exception is stale',
  )

  t.match(failing({ KERNEL_VARIANT: 'tiny' }).said, 'KERNEL_VARIANT=tiny: expected debug, firecracker')
  t.match(failing({ KERNEL_SOURCE: 'local' }).said, 'KERNEL_TREE=: KERNEL_SOURCE=local needs')
  t.match(failing({ KERNEL_VERSION: '3.2' }).said, 'no package linux-source-3.2')
  t.match(failing({}, 'kernel-diff').said, 'two configurations are compared')
  t.match(failing({}, 'kernel-menuconfig').said, 'the menu needs a terminal')
  t.equal(statSync(join(WORKDIR, 'vmlinuz.container')).mtimeMs, before)
  t.end()
})

t.test('a changed fragment compiles what it touches; a fault in the sources is shown', (t) => {
  const folder = t.testdir({ 'a.conf': '# a disk of nothing\nCONFIG_BLK_DEV_NULL_BLK=y\n' })
  const added = make('kernel', { ...COMMON, KERNEL_FRAGMENTS: folder })
  t.equal(added.status, 0, added.said)
  const files = Number(/(\d+) files/.exec(added.stdout.split('\n').at(-2) ?? '')?.[1])
  t.ok(files > 0 && files < 300, `${String(files)} files for one driver`)
  const broken = join(WORKDIR, 'linux/drivers/block/null_blk/main.c')
  const good = readFileSync(broken, 'utf8')
  writeFileSync(broken, `${good}\nthis is no C;\n`)
  writeFileSync(
    join(folder, 'a.conf'),
    '# a disk of nothing\nCONFIG_BLK_DEV_NULL_BLK=y\n# and a fault\nCONFIG_BLK_DEV_RAM=y\n',
  )
  const failed = failing({ KERNEL_FRAGMENTS: folder })
  writeFileSync(broken, good)
  t.not(failed.status, 0)
  t.match(failed.said, /null_blk\/main\.c:\d+:\d+: error:/)
  t.match(failed.said, 'full log: ')
  t.equal(make('kernel', COMMON).status, 0, 'and back')
  t.end()
})

t.test('a kernel for aarch64 is built on this machine, and boots its initrd', async (t) => {
  await compiled(t, compiling.aarch64)
  const initrd = make('initrd', { ...AARCH64, CACHE_DIR: bootCache(FOREIGN_WORKDIR) })
  t.equal(initrd.status, 0, initrd.said)
  const booted = boots(t, { ...AARCH64, BOOT: 'initrd' })
  t.match(booted.said, /PID 1 is \S+ \(agent\)/)
})

t.test('a disk that is full is told, and leaves nothing half-written', (t) => {
  const small = t.testdir()
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=300m', 'tmpfs', small])
  try {
    const failed = failing({ WORKDIR: join(small, 'work') }, 'kernel-src')
    t.not(failed.status, 0)
    t.match(failed.said, /no space left.*\[E_FULL\]/)
    t.notMatch(failed.said, 'this is a bug')
    t.notOk(existsSync(join(small, 'work/linux')))
    t.notOk(readdirSync(join(small, 'work')).some((name) => name.includes('.tmp-')))
  } finally {
    execFileSync('umount', [small])
  }
  t.end()
})
