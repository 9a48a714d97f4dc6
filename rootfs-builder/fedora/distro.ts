// SPDX-License-Identifier: Apache-2.0
import type { Distro } from '../distro.ts'

const SECONDARY = 'https://dl.fedoraproject.org/pub/fedora-secondary'

export const fedora = {
  name: 'fedora',
  title: 'Fedora',
  packageManager: 'dnf',
  // Source: fedorapeople.org/groups/schedule.
  releases: [
    { name: '43', version: '43', endOfLife: '2026-12-02' },
    { name: '44', version: '44' },
  ],
  defaultRelease: '44',
  mirror: 'https://dl.fedoraproject.org/pub/fedora/linux',
  archMirrors: { ppc64le: SECONDARY, s390x: SECONDARY },
  repositories: [
    { id: 'fedora', url: '{mirror}/releases/{release}/Everything/{arch}/os', signs: 'packages' },
    {
      id: 'updates',
      url: '{mirror}/updates/{release}/Everything/{arch}',
      signs: 'packages',
      optional: true,
    },
  ],
  rpmDatabase: 'usr/lib/sysimage/rpm',
  keyring: 'fedora/keys',
  arches: { x86_64: 'x86_64', aarch64: 'aarch64', ppc64le: 'ppc64le', s390x: 's390x' },
  initModes: ['systemd', 'agent'],
  packages: [
    { packages: ['fedora-release-container'], why: 'says what the guest is, and where its updates are' },
    { packages: ['chrony'], why: "keeps the guest's clock at the host's through /dev/ptp0" },
    { packages: ['iptables-nft'], why: 'the agent sets up the network of containers' },
    { packages: ['cryptsetup', 'e2fsprogs'], why: 'the agent formats and opens encrypted volumes' },
    { packages: ['systemd'], when: { agentInit: false }, why: 'systemd is PID 1' },
    { packages: ['libseccomp'], when: { seccomp: true }, why: 'the agent links libseccomp' },
    { packages: ['container-selinux'], when: { selinux: true }, why: "SELinux's policy for containers" },
  ],
} as const satisfies Distro
