// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { PROJECT } from './system/user.ts'

/**
 * Time our builds against plain tools doing the same work, in one run, and print ratios.
 *
 * Each case is run ROUNDS times, the two sides in turn, so that a busy machine slows both. Needs root
 * for the loop mount of the plain side, and the network or REPO_URL for the packages.
 */
const ROUNDS = Number(process.env['ROUNDS'] ?? '5')

const WORKDIR = join(PROJECT, 'workdir', 'bench')
const ROOTFS = join(WORKDIR, 'debian_rootfs')
const MIRROR = process.env['REPO_URL'] ?? 'http://deb.debian.org/debian'
const ENV = {
  PATH: process.env['PATH'] ?? '',
  HOME: process.env['HOME'] ?? '/root',
  DISTRO: 'debian',
  REPO_URL: MIRROR,
  WORKDIR,
  INITRD_COMPRESSION: 'zstd',
  SOURCE_DATE_EPOCH: '1795000000',
}

/** One script; what it prints is dropped unless it fails. Returns wall time in seconds. */
function timed(script: string, env: Readonly<Record<string, string>> = {}): number {
  const startNs = process.hrtime.bigint()
  const { status, stderr } = spawnSync('bash', ['--norc', '-euo', 'pipefail', '-c', script], {
    cwd: PROJECT,
    env: { ...ENV, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`bench: ${script}\n${stderr}`)
  return Number(process.hrtime.bigint() - startNs) / 1e9
}

const STEPS = {
  rootfs: 'node build/rootfs-builder/rootfs.js',
  image: 'node build/image-builder/image.js',
  initrd: 'node build/initrd-builder/initrd.js',
} as const

interface Case {
  readonly name: string
  readonly ours: () => number
  readonly plain?: readonly { readonly name: string; readonly run: () => number }[]
}

const forget = (file: string): void => {
  rmSync(join(WORKDIR, file), { force: true })
  rmSync(join(WORKDIR, `.${file}.state`), { force: true })
}

const PACKAGES = 'chrony,iptables,cryptsetup-bin,e2fsprogs,init,dbus,libseccomp2'

/**
 * How Kata's image builder makes the same image: its size found by trial, with a file system made and
 * mounted for each, then the disk, a check, and its copy behind the header disk, with dd as it is called
 * there, in blocks of 512 bytes. Every step of it is here, in our words, but the compiling of its tool
 * that writes the header. Source: reference of kata-osbuilder, sections 4.1 to 4.5.
 */
const KATA_IMAGE = `
  cd '${WORKDIR}'
  trap 'umount kata.mnt 2>/dev/null || true; losetup -D; rm -rf kata.img kata.raw kata.header kata.mnt' EXIT
  mkdir -p kata.mnt
  disk() {
    rm -f kata.raw; qemu-img create -q -f raw kata.raw "$1M"
    parted -s -a optimal kata.raw mklabel msdos mkpart primary ext4 1MiB 100%
    loop=$(losetup --find --show --partscan --offset $((1024*1024)) kata.raw)
    mkfs.ext4 -q -F -b 4096 "$loop"; tune2fs -m 3 "$loop" >/dev/null
    mount "$loop" kata.mnt
  }
  used=$(du -sm '${ROOTFS}' | cut -f1)
  for trial in $(seq 1 20); do
    size=$((used + 10 * trial)); disk "$size"
    free=$(df -m --output=avail kata.mnt | tail -1); umount kata.mnt; losetup -d "$loop"
    [ "$free" -le "$used" ] || break
  done
  size=$(( (size + 2 + 127) / 128 * 128 - 2 )); disk "$size"
  cp -a '${ROOTFS}'/. kata.mnt/; sync; umount kata.mnt; fsck.ext4 -D -y "$loop" >/dev/null 2>&1; losetup -d "$loop"
  qemu-img create -q -f raw kata.header "$((size + 2))M"
  parted -s -a optimal kata.header mklabel msdos mkpart primary ext4 3MiB 100%; sync
  dd if=kata.header of=kata.img bs=2M count=1 status=none
  dd if=kata.raw of=kata.img oflag=append conv=notrunc status=none; sync`

/** Small packages, a new one for each round. */
const ADDED = ['strace', 'less', 'jq', 'tree', 'bc', 'file', 'lsof', 'psmisc', 'socat', 'tcpdump']

const PLAIN_INITRD = `cd '${ROOTFS}'; find . | cpio --quiet -H newc -o | gzip -9 > '${WORKDIR}/plain-initrd.img'`

/** All packages by mmdebstrap, as Kata does it. Returns wall time in seconds. */
function plainTree(): number {
  const target = join(PROJECT, 'workdir', 'bench-plain')
  rmSync(target, { recursive: true, force: true })
  // The same suites: updates and security replace packages and cost their own indexes.
  const sources = ['bookworm', 'bookworm-updates'].map((suite) => `'deb ${MIRROR} ${suite} main'`)
  sources.push(`'deb ${MIRROR}-security bookworm-security main'`)
  const seconds = timed(
    `mmdebstrap --quiet --variant=required --include=${PACKAGES} bookworm '${target}' ${sources.join(' ')}`,
  )
  rmSync(target, { recursive: true, force: true })
  return seconds
}

const cases: readonly Case[] = [
  {
    name: 'cold packages -> rootfs + image',
    ours: () => {
      rmSync(WORKDIR, { recursive: true, force: true })
      return timed(`${STEPS.rootfs} && ${STEPS.image}`)
    },
    plain: [
      {
        name: 'mmdebstrap alone',
        run: plainTree,
      },
    ],
  },
  {
    name: 'rootfs -> image',
    ours: () => {
      forget('kata-containers.img')
      return timed(STEPS.image)
    },
    plain: [
      {
        name: "Kata's procedure",
        run: () => timed(KATA_IMAGE),
      },
      {
        name: 'its loop + mount + cp -a alone',
        run: () =>
          timed(
            `cd '${WORKDIR}'; trap 'umount plain.mnt 2>/dev/null || true; rm -rf plain.img plain.mnt' EXIT
           truncate -s 256M plain.img; parted -s -a optimal plain.img mklabel msdos mkpart primary ext4 1MiB 100%
           loop=$(losetup --find --show --offset $((1024*1024)) plain.img); mkdir -p plain.mnt
           mkfs.ext4 -q -F -b 4096 "$loop"; tune2fs -m 3 "$loop" >/dev/null; mount "$loop" plain.mnt
           cp -a '${ROOTFS}'/. plain.mnt/; umount plain.mnt; fsck.ext4 -fy "$loop" >/dev/null 2>&1; losetup -d "$loop"`,
          ),
      },
    ],
  },
  {
    name: 'rootfs -> initrd (zstd)',
    ours: () => {
      forget('kata-containers-initrd.img')
      return timed(STEPS.initrd)
    },
    plain: [
      {
        name: 'find | cpio | gzip -9',
        run: () => timed(PLAIN_INITRD),
      },
    ],
  },
  { name: 'make image, nothing changed', ours: () => timed('make image') },
  { name: 'agent changed -> new image', ours: () => timed('make image', changedAgent()) },
  { name: 'agent changed -> new initrd (zstd)', ours: () => timed('make initrd', changedAgent()) },
  {
    name: 'agent changed -> new initrd, DEV=yes',
    ours: () => {
      // The first one packs it whole, for the next to add to.
      timed('make initrd', { ...changedAgent(), DEV: 'yes' })
      return timed('make initrd', { ...changedAgent(), DEV: 'yes' })
    },
  },
  {
    name: 'one package added -> new image',
    ours: () => {
      timed('make rootfs')
      const [name = ''] = ADDED.splice(0, 1)
      return timed('make image', { EXTRA_PKGS: name })
    },
    plain: [{ name: "Kata's way: all packages, image", run: () => plainTree() + timed(KATA_IMAGE) }],
  },
  {
    name: 'cold packages -> image and initrd',
    ours: () => {
      rmSync(WORKDIR, { recursive: true, force: true })
      return timed('make all')
    },
    plain: [
      {
        name: "Kata's way: image, then initrd",
        run: () => plainTree() + timed(KATA_IMAGE) + timed(PLAIN_INITRD),
      },
    ],
  },
]

/** The settings of a build whose agent is not that of the build before. */
function changedAgent(): Record<string, string> {
  const agent = join(WORKDIR, 'bench-agent')
  if (!existsSync(agent)) writeFileSync(agent, '#!/bin/sh\n', { mode: 0o755 })
  appendFileSync(agent, '# changed\n')
  return { AGENT_SOURCE_BIN: agent }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
}

function row(name: string, values: readonly number[]): string {
  const spread = `${Math.min(...values).toFixed(2)}..${Math.max(...values).toFixed(2)}`
  return `  ${name.padEnd(34)} ${median(values).toFixed(2).padStart(7)} s  ${spread}`
}

const history: Record<string, unknown> = { rounds: ROUNDS }
for (const { name, ours, plain = [] } of cases) {
  const mine: number[] = []
  const theirs = plain.map((): number[] => [])
  for (let round = 0; round < ROUNDS; round += 1) {
    mine.push(ours())
    for (const [index, { run }] of plain.entries()) theirs[index]?.push(run())
  }
  process.stdout.write(`${row(name, mine)}\n`)
  for (const [index, other] of plain.entries()) {
    const times = theirs[index] ?? []
    const ratio = (median(times) / median(mine)).toFixed(2)
    process.stdout.write(`${row(`  ${other.name}`, times)}   ${ratio} x\n`)
  }
  history[name] = {
    ours: mine,
    plain: Object.fromEntries(plain.map(({ name: other }, i) => [other, theirs[i]])),
  }
}
const sizes = ['kata-containers-initrd.img', 'plain-initrd.img'].map(
  (file) => statSync(join(WORKDIR, file)).size,
)
process.stdout.write(`  initrd: ours ${String(sizes[0])} bytes, plain ${String(sizes[1])} bytes\n`)
mkdirSync(join(PROJECT, 'workdir'), { recursive: true })
const log = join(PROJECT, 'workdir', 'bench.jsonl')
const commit = existsSync(join(PROJECT, '.git', 'HEAD'))
  ? readFileSync(join(PROJECT, '.git', 'HEAD'), 'utf8').trim()
  : ''
appendFileSync(log, `${JSON.stringify({ commit, sizes, ...history })}\n`)
