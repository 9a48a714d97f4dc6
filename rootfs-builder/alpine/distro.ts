// SPDX-License-Identifier: Apache-2.0
import type { Distro } from '../distro.ts'

export const alpine = {
  name: 'alpine',
  title: 'Alpine Linux',
  packageManager: 'apk',
  // Source: alpinelinux.org/releases.
  releases: [
    { name: '3.20', version: '3.20', path: 'v3.20', endOfLife: '2026-04-01' },
    { name: '3.21', version: '3.21', path: 'v3.21', endOfLife: '2026-11-01' },
    { name: '3.22', version: '3.22', path: 'v3.22', endOfLife: '2027-05-01' },
    { name: 'edge', version: 'edge', path: 'edge' },
  ],
  defaultRelease: '3.22',
  mirror: 'https://dl-cdn.alpinelinux.org/alpine',
  keyring: 'alpine/keys',
  arches: { x86_64: 'x86_64', aarch64: 'aarch64', ppc64le: 'ppc64le', s390x: 's390x' },
  initModes: ['agent'],
  packages: [
    { packages: ['alpine-base'], why: 'the smallest Alpine there is, with busybox and apk' },
    { packages: ['iptables'], why: 'the agent sets up the network of containers' },
    { packages: ['libseccomp'], when: { seccomp: true }, why: 'the agent links libseccomp' },
  ],
} as const satisfies Distro
