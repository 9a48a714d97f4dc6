// SPDX-License-Identifier: Apache-2.0
import type { Distro } from '../distro.ts'

export const opensuse = {
  name: 'opensuse',
  title: 'openSUSE Leap',
  packageManager: 'dnf',
  // Source: en.opensuse.org/Lifetime.
  releases: [{ name: '16.0', version: '16.0', endOfLife: '2027-10-31' }],
  defaultRelease: '16.0',
  mirror: 'https://download.opensuse.org',
  // Packages of SUSE Linux Enterprise are signed by other keys than the index that names them.
  repositories: [{ id: 'oss', url: '{mirror}/distribution/leap/{release}/repo/oss/{arch}', signs: 'index' }],
  rpmDatabase: 'usr/lib/sysimage/rpm',
  keyring: 'opensuse/keys',
  arches: { x86_64: 'x86_64', aarch64: 'aarch64', ppc64le: 'ppc64le', s390x: 's390x' },
  initModes: ['systemd', 'agent'],
  packages: [
    { packages: ['Leap-release'], why: 'says what the guest is' },
    { packages: ['chrony'], why: "keeps the guest's clock at the host's through /dev/ptp0" },
    { packages: ['iptables'], why: 'the agent sets up the network of containers' },
    { packages: ['cryptsetup', 'e2fsprogs'], why: 'the agent formats and opens encrypted volumes' },
    { packages: ['systemd', 'dbus-1'], when: { agentInit: false }, why: 'systemd is PID 1' },
    { packages: ['libseccomp2'], when: { seccomp: true }, why: 'the agent links libseccomp' },
  ],
} as const satisfies Distro
