// SPDX-License-Identifier: Apache-2.0
import type { Distro } from '../distro.ts'

export const azurelinux = {
  name: 'azurelinux',
  title: 'Azure Linux',
  packageManager: 'dnf',
  releases: [{ name: '3.0', version: '3.0' }],
  defaultRelease: '3.0',
  mirror: 'https://packages.microsoft.com/azurelinux',
  repositories: [{ id: 'base', url: '{mirror}/{release}/prod/base/{arch}', signs: 'both' }],
  keyring: 'azurelinux/keys',
  arches: { x86_64: 'x86_64', aarch64: 'aarch64' },
  initModes: ['systemd', 'agent'],
  packages: [
    { packages: ['azurelinux-release', 'filesystem', 'bash'], why: 'the smallest system there is' },
    { packages: ['chrony'], why: "keeps the guest's clock at the host's through /dev/ptp0" },
    { packages: ['iptables'], why: 'the agent sets up the network of containers' },
    { packages: ['cryptsetup', 'e2fsprogs'], why: 'the agent formats and opens encrypted volumes' },
    { packages: ['systemd'], when: { agentInit: false }, why: 'systemd is PID 1' },
    { packages: ['libseccomp'], when: { seccomp: true }, why: 'the agent links libseccomp' },
  ],
} as const satisfies Distro
