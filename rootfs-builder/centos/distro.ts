// SPDX-License-Identifier: Apache-2.0
import type { Distro } from '../distro.ts'

export const centos = {
  name: 'centos',
  title: 'CentOS Stream',
  packageManager: 'dnf',
  // Expected end of life. Source: centos.org/cl-vs-cs.
  releases: [
    { name: 'stream9', version: '9', endOfLife: '2027-05-31' },
    { name: 'stream10', version: '10', endOfLife: '2030-05-31', rpmDatabase: 'usr/lib/sysimage/rpm' },
  ],
  defaultRelease: 'stream9',
  mirror: 'https://mirror.stream.centos.org',
  repositories: [
    { id: 'baseos', url: '{mirror}/{release}-stream/BaseOS/{arch}/os', signs: 'packages' },
    { id: 'appstream', url: '{mirror}/{release}-stream/AppStream/{arch}/os', signs: 'packages' },
  ],
  keyring: 'centos/keys',
  arches: { x86_64: 'x86_64', aarch64: 'aarch64', ppc64le: 'ppc64le', s390x: 's390x' },
  initModes: ['systemd', 'agent'],
  packages: [
    { packages: ['centos-stream-release'], why: 'says what the guest is, and where its updates are' },
    { packages: ['chrony'], why: "keeps the guest's clock at the host's through /dev/ptp0" },
    { packages: ['iptables-nft'], why: 'the agent sets up the network of containers' },
    { packages: ['cryptsetup', 'e2fsprogs'], why: 'the agent formats and opens encrypted volumes' },
    { packages: ['systemd'], when: { agentInit: false }, why: 'systemd is PID 1' },
    { packages: ['libseccomp'], when: { seccomp: true }, why: 'the agent links libseccomp' },
    { packages: ['container-selinux'], when: { selinux: true }, why: "SELinux's policy for containers" },
  ],
} as const satisfies Distro
