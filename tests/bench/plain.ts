// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'

import { debian } from '../../rootfs-builder/debian/distro.ts'
import { selectPackages } from '../../rootfs-builder/distro.ts'
import { PROJECT } from '../system/user.ts'

/** What others do with the same packages: plain tools as Kata calls them, mkosi, and debos. */

export const WORKDIR = join(PROJECT, 'workdir', 'bench')
export const ROOTFS = join(WORKDIR, 'debian_rootfs')
export const MIRROR = process.env['REPO_URL'] ?? debian.mirror

/** Folders of rounds that are over. */
const OVER = join(PROJECT, 'workdir', 'bench-over')

let over = 0

/**
 * Take a folder out of the way; all go when the bench ends.
 *
 * For a minute ext4 gives no inode again that was removed, and each new file looks at all of those: a tree
 * that is unpacked after another one was removed takes ten times as long.
 */
export function setAside(folder: string): void {
  if (!existsSync(folder)) return
  if (over === 0) process.on('exit', () => rmSync(OVER, { recursive: true, force: true }))
  mkdirSync(OVER, { recursive: true })
  renameSync(folder, join(OVER, `${String(process.pid)}-${String((over += 1))}`))
}

/** Where others work; not below WORKDIR, which a cold build begins without. */
const ELSEWHERE = join(PROJECT, 'workdir', 'bench-others')

const PACKAGES = selectPackages(debian, { agentInit: false, seccomp: true, selinux: false })

const BARE = { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '/root' }

/** One script; what it prints is dropped unless it fails. Returns wall time in seconds. */
export function timed(script: string, env: Readonly<Record<string, string>> = {}): number {
  const startNs = process.hrtime.bigint()
  const { status, stdout, stderr } = spawnSync('bash', ['--norc', '-euo', 'pipefail', '-c', script], {
    cwd: PROJECT,
    env: { ...BARE, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  })
  const seconds = Number(process.hrtime.bigint() - startNs) / 1e9
  if (status !== 0) throw new Error(`bench: ${script}\n${stdout.slice(-2000)}\n${stderr.slice(-2000)}`)
  return seconds
}

/** One of those that we are compared with. */
export interface Other {
  readonly name: string
  /** Programs without which it is told as not installed. */
  readonly needs: readonly string[]
  readonly run: () => number
}

/** True when its programs can be started here. */
export function isInstalled({ needs }: Other): boolean {
  const folders = BARE.PATH.split(delimiter).filter((folder) => folder !== '')
  return needs.every((program) => folders.some((folder) => existsSync(join(folder, program))))
}

/** Version of a program as its package says, or nothing. */
export function versionOf(program: string): string | undefined {
  const { status, stdout } = spawnSync('dpkg-query', ['--show', '--showformat=${Version}', program], {
    encoding: 'utf8',
  })
  return status === 0 && stdout !== '' ? stdout : undefined
}

/** As ours: links in place of `usrmerge`, which brings eight packages more. */
const MERGED_USR = '--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr'

/** All packages by mmdebstrap, as Kata does it, from the same suites as ours; or exactly the packages of ours. */
export function mmdebstrap(exactly: 'as Kata' | 'as ours' = 'as Kata'): number {
  const target = join(ELSEWHERE, 'mmdebstrap')
  mkdirSync(ELSEWHERE, { recursive: true })
  setAside(target)
  const sources = ['bookworm', 'bookworm-updates'].map((suite) => `'deb ${MIRROR} ${suite} main'`)
  sources.push(`'deb ${MIRROR}-security bookworm-security main'`)
  const seconds = timed(
    `mmdebstrap --quiet --variant=required ${exactly === 'as ours' ? MERGED_USR : ''} --include=${PACKAGES.join(',')} bookworm '${target}' ${sources.join(' ')}`,
  )
  setAside(target)
  return seconds
}

/**
 * How Kata's image builder makes the same image: its size found by trial, with a file system made and
 * mounted for each, then the disk, a check, and its copy behind the header disk, with dd as it is called
 * there, in blocks of 512 bytes. Every step of it is here, in our words, but the compiling of its tool
 * that writes the header. Source: reference of kata-osbuilder, sections 4.1 to 4.5.
 */
export function kataImage(): number {
  return timed(`
    cd '${WORKDIR}'
    trap 'umount kata.mnt 2>/dev/null || true; losetup -d "\${loop:-}" 2>/dev/null || true; rm -rf kata.img kata.raw kata.header kata.mnt' EXIT
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
    cp -a '${ROOTFS}'/. kata.mnt/; sync; umount kata.mnt; fsck.ext4 -D -y "$loop" >&2 || [ $? = 1 ]; losetup -d "$loop"
    qemu-img create -q -f raw kata.header "$((size + 2))M"
    parted -s -a optimal kata.header mklabel msdos mkpart primary ext4 3MiB 100%; sync
    dd if=kata.header of=kata.img bs=2M count=1 status=none
    dd if=kata.raw of=kata.img oflag=append conv=notrunc status=none; sync`)
}

/** The part of it that no image of a loop device can do without. */
export function loopAndCopy(): number {
  return timed(`
    cd '${WORKDIR}'; trap 'umount plain.mnt 2>/dev/null || true; rm -rf plain.img plain.mnt' EXIT
    truncate -s 256M plain.img; parted -s -a optimal plain.img mklabel msdos mkpart primary ext4 1MiB 100%
    loop=$(losetup --find --show --offset $((1024*1024)) plain.img); mkdir -p plain.mnt
    mkfs.ext4 -q -F -b 4096 "$loop"; tune2fs -m 3 "$loop" >/dev/null; mount "$loop" plain.mnt
    cp -a '${ROOTFS}'/. plain.mnt/; umount plain.mnt; fsck.ext4 -fy "$loop" >&2 || [ $? = 1 ]; losetup -d "$loop"`)
}

/** Kata's initrd of the rootfs that is there. */
export function gzipInitrd(): number {
  return timed(
    `cd '${ROOTFS}'; find . | cpio --quiet -H newc -o | gzip -9 > '${join(WORKDIR, 'plain-initrd.img')}'`,
  )
}

/**
 * A mount namespace with a /run of its own: systemd-nspawn, which both use, wants it to be in memory, and
 * wants a bus of systemd only when it finds one. debos binds /dev/disk, which hosts without udev lack.
 */
function inNamespace(command: readonly string[]): string {
  const words = command.map((word) => `'${word}'`).join(' ')
  return [
    '[ -e /dev/disk ] || { mkdir /dev/disk; trap "rmdir /dev/disk" EXIT; }',
    `unshare --mount bash --norc -euc 'mount -t tmpfs -o mode=0755 run /run; mkdir /run/lock; "$@"' bash ${words}`,
  ].join('\n')
}

/** What mkosi keeps: packages, and with --incremental the tree. */
const MKOSI = join(ELSEWHERE, 'mkosi')

/** Drop what mkosi keeps of one output, or all of it. */
export function forgetMkosi(): void {
  setAside(MKOSI)
}

/** A build by mkosi 14, the one of Debian 12. */
export function mkosi(format: 'gpt_ext4' | 'cpio', options: readonly string[] = []): number {
  for (const folder of ['cache', 'files/usr/bin']) mkdirSync(join(MKOSI, folder), { recursive: true })
  return timed(
    inNamespace(
      [
        ['mkosi', '--directory', MKOSI, '--cache', join(MKOSI, 'cache'), '--workspace-dir', MKOSI],
        ['--distribution', 'debian', '--release', 'bookworm', '--mirror', MIRROR],
        PACKAGES.flatMap((name) => ['--package', name]),
        ['--force', '--bootable=no', '--nspawn-keep-unit', '--format', format, '--output', format],
        format === 'cpio' ? ['--compress-output=zstd'] : ['--root-size', '1G'],
        options,
      ].flat(),
    ),
  )
}

/** A build by mkosi from the tree that it keeps, with another agent laid over. */
export function mkosiAgain(format: 'gpt_ext4' | 'cpio'): number {
  const name = format === 'cpio' ? 'cpio' : 'gpt_ext4'
  // Without the tree it would be made now; that is another case.
  if (!existsSync(join(MKOSI, `${name}.cache-pre-inst`))) mkosi(format, ['--incremental'])
  writeFileSync(join(MKOSI, 'files/usr/bin/kata-agent'), `#!/bin/sh\n# ${String(Math.random())}\n`)
  return mkosi(format, ['--incremental', '--extra-tree', join(MKOSI, 'files')])
}

/** A rootfs by debos, packed as a tar. Its images need a running udev, or a virtual machine. */
export function debos(): number {
  const folder = join(ELSEWHERE, 'debos')
  setAside(folder)
  mkdirSync(folder, { recursive: true })
  const recipe = [
    'architecture: amd64',
    'actions:',
    `  - {action: debootstrap, suite: bookworm, mirror: ${MIRROR}, variant: minbase, components: [main], merged-usr: true}`,
    `  - {action: apt, recommends: false, packages: [${PACKAGES.join(', ')}]}`,
    '  - {action: pack, file: rootfs.tar, compression: none}',
  ]
  writeFileSync(join(folder, 'recipe.yaml'), `${recipe.join('\n')}\n`)
  const seconds = timed(
    inNamespace(['debos', '--disable-fakemachine', `--artifactdir=${folder}`, join(folder, 'recipe.yaml')]),
  )
  setAside(folder)
  return seconds
}
