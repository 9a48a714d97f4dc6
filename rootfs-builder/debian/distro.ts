// SPDX-License-Identifier: Apache-2.0
import type { Distro } from '../distro.ts'

export const debian = {
  name: 'debian',
  title: 'Debian',
  packageManager: 'apt',
  // End of long-term support. Source: wiki.debian.org/LTS.
  releases: [
    { name: 'bullseye', version: '11', endOfLife: '2026-08-31' },
    { name: 'bookworm', version: '12', endOfLife: '2028-06-30', choosesMergedUsr: true },
    { name: 'trixie', version: '13', endOfLife: '2030-06-30' },
    // Unstable has no updates or security suites: both are in the suite itself.
    { name: 'sid', version: 'unstable', suites: [{ suite: 'sid', url: '{mirror}' }] },
  ],
  defaultRelease: 'bookworm',
  mirror: 'http://deb.debian.org/debian',
  suites: [
    { suite: '{release}', url: '{mirror}' },
    { suite: '{release}-updates', url: '{mirror}', optional: true },
    { suite: '{release}-security', url: '{mirror}-security', optional: true },
  ],
  keyring: 'debian/keys/debian-archive-keyring.gpg',
  arches: { x86_64: 'amd64', aarch64: 'arm64', ppc64le: 'ppc64el', s390x: 's390x' },
  initModes: ['systemd', 'agent'],
  packages: [
    { packages: ['chrony'], why: "keeps the guest's clock at the host's through /dev/ptp0" },
    { packages: ['iptables'], why: 'the agent sets up the network of containers' },
    { packages: ['cryptsetup-bin', 'e2fsprogs'], why: 'the agent formats and opens encrypted volumes' },
    { packages: ['init', 'dbus'], when: { agentInit: false }, why: 'systemd is PID 1' },
    {
      packages: ['libkmod2'],
      when: { agentInit: false },
      why: 'systemd loads kernel modules with it, and a unit of its own fails without (from trixie on)',
    },
    { packages: ['libseccomp2'], when: { seccomp: true }, why: 'the agent links libseccomp' },
  ],
} as const satisfies Distro
