// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'

import type { Engine } from './engine.ts'

/** The steps that a container can do. */
export type ContainerStep = 'rootfs' | 'image' | 'initrd' | 'kernel'

/**
 * Capabilities of a container, of which there are no others.
 *
 * Packers read files of all owners. Who makes a rootfs writes files of all owners, runs the packages'
 * scripts in it as root, and mounts a tmpfs and /proc in namespaces of its own.
 */
const CAPABILITIES: Readonly<Record<ContainerStep, readonly string[]>> = {
  image: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER'],
  initrd: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER'],
  kernel: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER'],
  rootfs: [
    ...['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID'],
    // dpkg and apt become other users; packages set capabilities of files; a script may send signals.
    ...['SETUID', 'SETGID', 'SETFCAP', 'KILL'],
    // The tree's own /dev, chroot into it, and the mounts.
    ...['MKNOD', 'SYS_CHROOT', 'SYS_ADMIN'],
  ],
}

/** Who unpacks the files of a rootfs gives them their capabilities and bits, too. */
const TO_UNPACK = ['FSETID', 'SETFCAP']

/** No privileged container: what a step needs beyond an ordinary one is named here. */
export function privileges(engine: Engine, step: ContainerStep): string[] {
  const names = new Set([...CAPABILITIES[step], ...(engine.isApart ? TO_UNPACK : [])])
  const words = ['--cap-drop', 'ALL', ...[...names].flatMap((name) => ['--cap-add', name])]
  // Files of the host keep their labels.
  words.push('--security-opt', 'label=disable')
  if (engine.name === 'podman' && !engine.isApart) words.push(...ownLimits())
  if (step !== 'rootfs') return words
  // The profile of the engine forbids mounts whatever the capabilities.
  if (engine.name === 'docker') return [...words, '--security-opt', 'apparmor=unconfined']
  // A new /proc may be mounted only where nothing of the old one is hidden.
  return [...words, '--security-opt', 'unmask=ALL']
}

/** Processes are limited to what podman itself keeps when it starts a container. */
const MOST_PROCESSES = 32768

/** The caller's own limits: podman's may be above what this host grants, and then nothing starts. */
export function ownLimits(): string[] {
  const table = readFileSync('/proc/self/limits', 'utf8')
  const limit = (name: string, title: string, most: number): string[] => {
    const [, soft, hard] = new RegExp(`^${title} +(\\d+) +(\\d+)`, 'm').exec(table) ?? []
    if (soft === undefined || hard === undefined) return []
    const [low, high] = [soft, hard].map((text) => String(Math.min(Number(text), most)))
    return ['--ulimit', `${name}=${String(low)}:${String(high)}`]
  }
  return [...limit('nofile', 'Max open files', Infinity), ...limit('nproc', 'Max processes', MOST_PROCESSES)]
}
