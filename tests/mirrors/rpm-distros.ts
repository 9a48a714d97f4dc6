// SPDX-License-Identifier: Apache-2.0
import type { MadeRpm, RpmDistro } from './rpm.ts'

const PASSWD = [
  'root:x:0:0:root:/root:/bin/bash',
  'nobody:x:65534:65534:Kernel Overflow User:/:/usr/sbin/nologin',
  'dbus:x:81:81:System Message Bus:/:/usr/sbin/nologin',
  'messagebus:x:101:101::/:/usr/sbin/nologin',
  'chrony:x:990:987:chrony:/var/lib/chrony:/usr/sbin/nologin',
  'systemd-network:x:192:192::/:/usr/sbin/nologin',
]

const GROUP = [
  ...['root:x:0:', 'tty:x:5:', 'disk:x:6:', 'kmem:x:9:', 'lp:x:7:', 'shadow:x:15:', 'utmp:x:22:'],
  ...['nobody:x:65534:', 'dbus:x:81:', 'messagebus:x:101:', 'chrony:x:987:', 'systemd-journal:x:190:'],
  ...[
    'input:x:104:',
    'video:x:39:',
    'audio:x:63:',
    'render:x:105:',
    'sgx:x:106:',
    'kvm:x:36:',
    'cdrom:x:11:',
  ],
  ...['dialout:x:18:', 'tape:x:33:', 'crontab:x:107:', 'systemd-network:x:192:'],
]

const lines = (of: readonly string[]): string => `${of.join('\n')}\n`

/** The folders and links that every tree begins with. */
const FILESYSTEM: Pick<MadeRpm, 'folders' | 'links' | 'attributes'> = {
  folders: [
    ...['usr/bin', 'usr/sbin', 'usr/lib', 'usr/lib64', 'usr/share', 'etc', 'var/lib', 'var/log', 'var/cache'],
    ...['var/tmp', 'var/empty', 'run', 'tmp', 'root', 'home', 'mnt', 'opt', 'srv', 'media', 'boot'],
    ...['dev', 'proc', 'sys'],
  ],
  links: {
    bin: 'usr/bin',
    sbin: 'usr/sbin',
    lib: 'usr/lib',
    lib64: 'usr/lib64',
    'var/run': '../run',
    'var/lock': '../run/lock',
  },
  attributes: [
    '%attr(1777,root,root) %dir /tmp',
    '%attr(1777,root,root) %dir /var/tmp',
    '%attr(0550,root,root) %dir /root',
    '%attr(0555,root,root) %dir /proc',
    '%attr(0555,root,root) %dir /sys',
  ],
}

const GLIBC = ['libc6', 'libgcc-s1', 'gcc-12-base', 'libcrypt1']
const SYSTEMD = [
  'systemd',
  'systemd-sysv',
  'libsystemd0',
  'libsystemd-shared',
  'udev',
  'dbus',
  'dbus-daemon',
  'mount',
]

/** CentOS Stream 9, with the names of its own packages. */
export const CENTOS: RpmDistro = {
  name: 'centos',
  version: '9',
  release: '1.el9',
  pathOf: (repository) => `9-stream/${repository}/x86_64/os`,
  packages: [
    {
      name: 'centos-stream-release',
      repository: 'BaseOS',
      files: {
        'usr/lib/os-release': lines([
          ...[
            'NAME="CentOS Stream"',
            'VERSION="9"',
            'ID="centos"',
            'ID_LIKE="rhel fedora"',
            'VERSION_ID="9"',
          ],
          ...['PLATFORM_ID="platform:el9"', 'PRETTY_NAME="CentOS Stream 9"'],
        ]),
        'etc/yum.repos.d/centos.repo': lines([
          ...['[baseos]', 'name=CentOS Stream 9 - BaseOS', 'gpgcheck=1'],
          'metalink=https://mirrors.centos.org/metalink?repo=centos-baseos-9-stream&arch=x86_64',
        ]),
      },
      links: { 'etc/os-release': '../usr/lib/os-release' },
      requires: ['filesystem'],
    },
    { name: 'filesystem', repository: 'BaseOS', ...FILESYSTEM, requires: ['setup'] },
    {
      name: 'setup',
      repository: 'BaseOS',
      files: { 'etc/passwd': lines(PASSWD), 'etc/group': lines(GROUP), 'etc/shadow': 'root:*:19000::::::\n' },
      attributes: ['%attr(0000,root,root) /etc/shadow'],
    },
    { name: 'glibc', repository: 'BaseOS', debs: GLIBC, requires: ['filesystem'] },
    {
      name: 'bash',
      repository: 'BaseOS',
      debs: ['bash', 'dash', 'libtinfo6'],
      requires: ['glibc'],
      links: { 'usr/bin/sh': 'bash' },
      provides: ['/bin/sh'],
    },
    {
      name: 'coreutils',
      repository: 'BaseOS',
      debs: 'rest',
      requires: ['bash'],
      files: { 'usr/share/doc/coreutils/README': 'A document.\n' },
      attributes: ['%doc /usr/share/doc/coreutils/README'],
    },
    { name: 'libseccomp', repository: 'BaseOS', debs: ['libseccomp2'], requires: ['glibc'] },
    { name: 'systemd', repository: 'BaseOS', debs: SYSTEMD, requires: ['coreutils', 'libseccomp'] },
    {
      name: 'chrony',
      repository: 'BaseOS',
      debs: ['chrony'],
      requires: ['coreutils', 'libseccomp'],
      attributes: ['%attr(0750,chrony,chrony) %dir /var/lib/chrony'],
      post: 'test -c /dev/null && echo "$(id -u) $(ls /proc/self/exe)" > /etc/post-was-run',
    },
    { name: 'cryptsetup', repository: 'BaseOS', debs: ['cryptsetup-bin'], requires: ['coreutils'] },
    { name: 'e2fsprogs', repository: 'BaseOS', debs: ['e2fsprogs'], requires: ['coreutils'] },
    { name: 'iptables-nft', repository: 'BaseOS', debs: ['iptables'], requires: ['coreutils'] },
    {
      name: 'selinux-policy-targeted',
      repository: 'BaseOS',
      files: {
        'etc/selinux/config': 'SELINUX=enforcing\nSELINUXTYPE=targeted\n',
        'etc/selinux/targeted/contexts/files/file_contexts': '/.* system_u:object_r:default_t:s0\n',
      },
    },
    {
      name: 'container-selinux',
      repository: 'AppStream',
      files: { 'usr/share/selinux/packages/container.pp.bz2': 'policy\n' },
      requires: ['selinux-policy-targeted'],
    },
    { name: 'against-bash', repository: 'AppStream', conflicts: ['bash'] },
    { name: 'wants-what-is-not-there', repository: 'AppStream', requires: ['libnowhere.so.1()(64bit)'] },
    {
      name: 'hello',
      repository: 'AppStream',
      files: { 'usr/share/hello': 'hello\n' },
      requires: ['bash'],
    },
  ],
}

/** Clear Linux, an archive of it: packages without signatures, and an index that its keeper signs. */
export const CLEARLINUX: RpmDistro = {
  name: 'clearlinux',
  version: '43000',
  release: '1',
  signsIndexOnly: true,
  pathOf: () => 'releases/43000/clear/x86_64/os',
  files: { latest: '43000\n' },
  packages: [
    {
      name: 'filesystem',
      repository: 'clear',
      ...FILESYSTEM,
      files: {
        'usr/lib/os-release': lines([
          ...['NAME="Clear Linux OS"', 'ID=clear-linux-os', 'VERSION_ID=43000'],
          'PRETTY_NAME="Clear Linux OS"',
        ]),
        'etc/passwd': lines(PASSWD),
        'etc/group': lines(GROUP),
      },
      links: { ...FILESYSTEM.links, 'etc/os-release': '../usr/lib/os-release' },
    },
    { name: 'glibc', repository: 'clear', debs: GLIBC, requires: ['filesystem'] },
    {
      name: 'bash',
      repository: 'clear',
      debs: ['bash', 'libtinfo6'],
      requires: ['glibc'],
      links: { 'usr/bin/sh': 'bash' },
      provides: ['/bin/sh'],
    },
    { name: 'util-linux-bin', repository: 'clear', debs: 'rest', requires: ['bash'] },
    { name: 'libudev0-shim', repository: 'clear', debs: ['libudev1'], requires: ['glibc'] },
    { name: 'kmod-bin', repository: 'clear', debs: ['kmod'], requires: ['util-linux-bin'] },
    { name: 'libseccomp', repository: 'clear', debs: ['libseccomp2'], requires: ['glibc'] },
    {
      name: 'systemd',
      repository: 'clear',
      debs: SYSTEMD,
      requires: ['util-linux-bin', 'libudev0-shim', 'libseccomp'],
    },
    {
      name: 'chrony',
      repository: 'clear',
      debs: ['chrony'],
      requires: ['util-linux-bin', 'libseccomp'],
      attributes: ['%attr(0750,chrony,chrony) %dir /var/lib/chrony'],
    },
    { name: 'iptables-bin', repository: 'clear', debs: ['iptables'], requires: ['util-linux-bin'] },
  ],
}
