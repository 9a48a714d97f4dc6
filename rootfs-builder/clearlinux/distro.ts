// SPDX-License-Identifier: Apache-2.0
import type { Distro } from '../distro.ts'

export const clearlinux = {
  name: 'clearlinux',
  title: 'Clear Linux',
  packageManager: 'dnf',
  // The project ended, and its servers with it. Source: the announcement of 2025-07-18 on its forum.
  releases: [{ name: 'latest', version: 'latest', endOfLife: '2025-07-18' }],
  defaultRelease: 'latest',
  latestFile: 'latest',
  mirror: 'https://cdn.download.clearlinux.org',
  // Its packages carry no signatures; who keeps an archive of them signs the index.
  repositories: [{ id: 'clear', url: '{mirror}/releases/{release}/clear/{arch}/os', signs: 'index' }],
  keyring: '',
  arches: { x86_64: 'x86_64' },
  initModes: ['systemd', 'agent'],
  packages: [
    { packages: ['filesystem', 'bash', 'libudev0-shim', 'kmod-bin'], why: 'what its bundles begin with' },
    { packages: ['chrony'], why: "keeps the guest's clock at the host's through /dev/ptp0" },
    { packages: ['iptables-bin'], why: 'the agent sets up the network of containers' },
    { packages: ['systemd', 'util-linux-bin'], when: { agentInit: false }, why: 'systemd is PID 1' },
    { packages: ['libseccomp'], when: { seccomp: true }, why: 'the agent links libseccomp' },
  ],
} as const satisfies Distro
