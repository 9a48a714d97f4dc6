// SPDX-License-Identifier: Apache-2.0
import type { Distro } from '../distro.ts'

const PORTS = 'http://ports.ubuntu.com/ubuntu-ports'

export const ubuntu = {
  name: 'ubuntu',
  title: 'Ubuntu',
  packageManager: 'apt',
  // End of standard support. Source: ubuntu.csv of distro-info-data.
  releases: [
    { name: 'jammy', version: '22.04', endOfLife: '2027-06-01' },
    { name: 'noble', version: '24.04', endOfLife: '2029-05-31' },
    { name: 'resolute', version: '26.04', endOfLife: '2031-05-29' },
  ],
  defaultRelease: 'noble',
  mirror: 'http://archive.ubuntu.com/ubuntu',
  // Only x86 is on the main mirrors.
  archMirrors: { aarch64: PORTS, ppc64le: PORTS, s390x: PORTS },
  suites: [
    { suite: '{release}', url: '{mirror}' },
    { suite: '{release}-updates', url: '{mirror}', optional: true },
    { suite: '{release}-security', url: '{mirror}', optional: true },
  ],
  keyring: 'ubuntu/keys/ubuntu-archive-keyring.gpg',
  arches: { x86_64: 'amd64', aarch64: 'arm64', ppc64le: 'ppc64el', s390x: 's390x' },
  initModes: ['systemd', 'agent'],
  packages: [
    { packages: ['chrony'], why: "keeps the guest's clock at the host's through /dev/ptp0" },
    { packages: ['iptables'], why: 'the agent sets up the network of containers' },
    { packages: ['cryptsetup-bin', 'e2fsprogs'], why: 'the agent formats and opens encrypted volumes' },
    { packages: ['init', 'dbus'], when: { agentInit: false }, why: 'systemd is PID 1' },
    { packages: ['libseccomp2'], when: { seccomp: true }, why: 'the agent links libseccomp' },
  ],
} as const satisfies Distro
