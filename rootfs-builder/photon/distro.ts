// SPDX-License-Identifier: Apache-2.0
import type { Distro } from '../distro.ts'

export const photon = {
  name: 'photon',
  title: 'Photon OS',
  packageManager: 'dnf',
  releases: [{ name: '5.0', version: '5.0' }],
  defaultRelease: '5.0',
  mirror: 'https://packages.vmware.com/photon',
  repositories: [
    { id: 'release', url: '{mirror}/{release}/photon_release_{release}_{arch}', signs: 'packages' },
    {
      id: 'updates',
      url: '{mirror}/{release}/photon_updates_{release}_{arch}',
      signs: 'packages',
      optional: true,
    },
  ],
  rpmDatabase: 'usr/lib/sysimage/rpm',
  keyring: 'photon/keys',
  arches: { x86_64: 'x86_64', aarch64: 'aarch64' },
  initModes: ['systemd', 'agent'],
  packages: [
    { packages: ['photon-release', 'filesystem', 'bash'], why: 'the smallest system there is' },
    { packages: ['chrony'], why: "keeps the guest's clock at the host's through /dev/ptp0" },
    { packages: ['iptables'], why: 'the agent sets up the network of containers' },
    { packages: ['cryptsetup', 'e2fsprogs'], why: 'the agent formats and opens encrypted volumes' },
    { packages: ['systemd'], when: { agentInit: false }, why: 'systemd is PID 1' },
    { packages: ['libseccomp'], when: { seccomp: true }, why: 'the agent links libseccomp' },
  ],
} as const satisfies Distro
