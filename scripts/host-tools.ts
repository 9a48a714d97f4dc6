// SPDX-License-Identifier: Apache-2.0

import { ARCHES, ARCH_NAMES } from './arch.ts'
import type { ArchName } from './arch.ts'

/** Package managers of the build host. */
export type HostManager = 'apt' | 'dnf' | 'apk'

/** Targets that need host tools of their own. */
export type ToolTarget =
  | 'rootfs'
  | 'image'
  | 'xfs'
  | 'squashfs'
  | 'signing'
  | 'initrd'
  | 'kernel'
  | 'dracut'
  | 'dnf'
  | 'boot'
  | 'proof'
  | 'remote-cache'
  | 'test'
  | `foreign-${ArchName}`

export interface HostTool {
  readonly tool: string
  readonly why: string
  readonly targets: readonly ToolTarget[]
  /** Package that has the tool, per host package manager; absent where no package has it. */
  readonly packages: Partial<Record<HostManager, string>>
}

/** apt packages of an architecture's QEMU and of its C library for cross compiling. */
const APT_FOREIGN: Readonly<Record<ArchName, { readonly qemu: string; readonly libc: string }>> = {
  x86_64: { qemu: 'qemu-system-x86', libc: 'libc6-dev-amd64-cross' },
  aarch64: { qemu: 'qemu-system-arm', libc: 'libc6-dev-arm64-cross' },
  ppc64le: { qemu: 'qemu-system-ppc', libc: 'libc6-dev-ppc64el-cross' },
  // In a package of its own since Debian 13, which that one then brings.
  s390x: { qemu: 'qemu-system-misc', libc: 'libc6-dev-s390x-cross' },
}

/** Every program of the host that a target starts. */
export const HOST_TOOLS: readonly HostTool[] = [
  {
    tool: 'mmdebstrap',
    why: 'installs Debian packages into a new rootfs',
    targets: ['rootfs'],
    packages: { apt: 'mmdebstrap', dnf: 'mmdebstrap' },
  },
  {
    tool: 'dpkg-deb',
    why: 'unpacks Debian packages',
    targets: ['rootfs', 'boot', 'kernel'],
    packages: { apt: 'dpkg', dnf: 'dpkg', apk: 'dpkg' },
  },
  {
    tool: 'apt-get',
    why: 'downloads and verifies Debian packages',
    targets: ['rootfs', 'boot'],
    packages: { apt: 'apt', dnf: 'apt' },
  },
  {
    tool: 'gpgv',
    why: 'verifies archive signatures',
    targets: ['rootfs', 'boot', 'kernel'],
    packages: { apt: 'gpgv', dnf: 'gnupg2', apk: 'gpgv' },
  },
  {
    tool: 'musl-gcc',
    why: 'compiles the bundled agent, small and static',
    targets: ['rootfs', 'boot'],
    packages: { apt: 'musl-tools', dnf: 'musl-gcc', apk: 'musl-dev' },
  },
  {
    tool: 'gcc',
    why: 'compiles the bundled agent',
    targets: ['rootfs', 'boot', 'kernel'],
    packages: { apt: 'gcc', dnf: 'gcc', apk: 'gcc' },
  },
  {
    tool: 'mount',
    why: 'mounts the memory that a rootfs is made in, where no other program sees it',
    targets: ['rootfs'],
    packages: { apt: 'mount', dnf: 'util-linux', apk: 'mount' },
  },
  {
    tool: 'unshare',
    why: 'keeps mounts and processes of a build apart from the host',
    targets: ['rootfs', 'image', 'initrd'],
    packages: { apt: 'util-linux', dnf: 'util-linux', apk: 'util-linux-misc' },
  },
  {
    tool: 'setpriv',
    why: 'ends the tools of a build that was killed',
    targets: ['rootfs', 'boot'],
    packages: { apt: 'util-linux', dnf: 'util-linux', apk: 'setpriv' },
  },
  {
    tool: 'setsid',
    why: "keeps a failed tool's signals from the rest of the build",
    targets: ['rootfs'],
    packages: { apt: 'util-linux', dnf: 'util-linux', apk: 'setsid' },
  },
  {
    tool: 'flock',
    why: 'keeps two builds from writing one output',
    targets: ['rootfs', 'image', 'initrd', 'kernel'],
    packages: { apt: 'util-linux', dnf: 'util-linux-core', apk: 'flock' },
  },
  {
    tool: 'newuidmap',
    why: 'lets a normal user build with several owners',
    targets: ['rootfs', 'image', 'initrd'],
    packages: { apt: 'uidmap', dnf: 'shadow-utils', apk: 'shadow-uidmap' },
  },
  {
    tool: 'newgidmap',
    why: 'lets a normal user build with several groups',
    targets: ['rootfs', 'dracut', 'image', 'initrd'],
    packages: { apt: 'uidmap', dnf: 'shadow-utils', apk: 'shadow-uidmap' },
  },
  {
    tool: 'tar',
    why: 'stores and restores the base tree',
    targets: ['rootfs', 'kernel'],
    packages: { apt: 'tar', dnf: 'tar', apk: 'tar' },
  },
  {
    tool: 'setfattr',
    why: 'gives files of Alpine packages their capabilities',
    targets: ['rootfs'],
    packages: { apt: 'attr', dnf: 'attr', apk: 'attr' },
  },
  {
    tool: 'getfattr',
    why: 'reads file capabilities and other extended attributes',
    targets: ['image'],
    packages: { apt: 'attr', dnf: 'attr', apk: 'attr' },
  },
  {
    tool: 'mkfs.xfs',
    why: 'makes images with FS_TYPE=xfs',
    targets: ['xfs', 'test'],
    packages: { apt: 'xfsprogs', dnf: 'xfsprogs', apk: 'xfsprogs' },
  },
  {
    tool: 'xfs_repair',
    why: 'lists what is used of an xfs after second names were added, and checks it in the tests',
    targets: ['xfs', 'test'],
    packages: { apt: 'xfsprogs', dnf: 'xfsprogs', apk: 'xfsprogs' },
  },
  {
    tool: 'sqfstar',
    why: 'makes images with FS_TYPE=squashfs',
    targets: ['squashfs', 'test'],
    packages: { apt: 'squashfs-tools', dnf: 'squashfs-tools', apk: 'squashfs-tools' },
  },
  {
    tool: 'openssl',
    why: 'signs root hashes with VERITY_KEY',
    targets: ['signing', 'test'],
    packages: { apt: 'openssl', dnf: 'openssl', apk: 'openssl' },
  },
  {
    tool: 'fsck.erofs',
    why: 'reads an erofs for make verify and make repro, and checks every one in the tests',
    targets: ['proof', 'test'],
    packages: { apt: 'erofs-utils', dnf: 'erofs-utils', apk: 'erofs-utils' },
  },
  {
    tool: 'veritysetup',
    why: 'computes root hashes again in the tests',
    targets: ['test'],
    packages: { apt: 'cryptsetup-bin', dnf: 'veritysetup', apk: 'cryptsetup' },
  },
  {
    tool: 'zstd',
    why: 'compresses the initrd, unpacks agent archives',
    targets: ['initrd', 'rootfs'],
    packages: { apt: 'zstd', dnf: 'zstd', apk: 'zstd' },
  },
  {
    tool: 'docker',
    why: 'builds in a container in the tests (USE_DOCKER)',
    targets: ['test'],
    packages: { apt: 'docker.io', dnf: 'moby-engine', apk: 'docker' },
  },
  {
    // A host may have the command alone, for an engine elsewhere.
    tool: 'dockerd',
    why: 'is the engine of those builds in the tests',
    targets: ['test'],
    packages: { apt: 'docker.io', dnf: 'moby-engine', apk: 'docker' },
  },
  {
    tool: 'podman',
    why: 'builds in a container in the tests (USE_PODMAN)',
    targets: ['test'],
    packages: { apt: 'podman', dnf: 'podman', apk: 'podman' },
  },
  {
    tool: 'runc',
    why: 'runs the containers of podman in the tests',
    targets: ['test'],
    packages: { apt: 'runc', dnf: 'runc', apk: 'runc' },
  },
  {
    tool: 'ip',
    why: 'lays the wires to the engines of the tests that are elsewhere (BUILDER)',
    targets: ['test'],
    packages: { apt: 'iproute2', dnf: 'iproute', apk: 'iproute2' },
  },
  {
    tool: 'docker-registry',
    why: 'is the registry of the tests, on this host alone',
    targets: ['test'],
    packages: { apt: 'docker-registry', dnf: 'docker-distribution', apk: 'docker-registry' },
  },
  {
    tool: 'strace',
    why: 'shows in the tests that nothing offline asks a network',
    targets: ['test'],
    packages: { apt: 'strace', dnf: 'strace', apk: 'strace' },
  },
  {
    tool: 'skopeo',
    why: 'asks a registry for trees that others have built (REMOTE_CACHE)',
    targets: ['remote-cache', 'test'],
    packages: { apt: 'skopeo', dnf: 'skopeo', apk: 'skopeo' },
  },
  {
    tool: 'gzip',
    why: 'compresses the initrd',
    targets: ['initrd'],
    packages: { apt: 'gzip', dnf: 'gzip', apk: 'gzip' },
  },
  {
    tool: 'xz',
    why: 'compresses the initrd, unpacks kernel modules',
    targets: ['initrd', 'boot', 'kernel'],
    packages: { apt: 'xz-utils', dnf: 'xz', apk: 'xz' },
  },
  {
    tool: 'lz4',
    why: 'compresses the initrd',
    targets: ['initrd', 'kernel'],
    packages: { apt: 'lz4', dnf: 'lz4', apk: 'lz4' },
  },
  {
    tool: 'depmod',
    why: 'indexes the modules of a kernel',
    targets: ['rootfs', 'boot'],
    packages: { apt: 'kmod', dnf: 'kmod', apk: 'kmod' },
  },
  {
    tool: 'git',
    why: 'fetches the agent of AGENT_REPO',
    targets: ['rootfs', 'kernel'],
    packages: { apt: 'git', dnf: 'git', apk: 'git' },
  },
  {
    tool: 'make',
    why: 'compiles the guest kernel',
    targets: ['kernel'],
    packages: { apt: 'make', dnf: 'make', apk: 'make' },
  },
  {
    tool: 'flex',
    why: "reads the kernel's configuration language",
    targets: ['kernel'],
    packages: { apt: 'flex', dnf: 'flex', apk: 'flex' },
  },
  {
    tool: 'bison',
    why: "reads the kernel's configuration language",
    targets: ['kernel'],
    packages: { apt: 'bison', dnf: 'bison', apk: 'bison' },
  },
  {
    tool: 'bc',
    why: 'computes constants of the kernel',
    targets: ['kernel'],
    packages: { apt: 'bc', dnf: 'bc', apk: 'bc' },
  },
  {
    tool: 'perl',
    why: 'runs small programs of the kernel build',
    targets: ['kernel'],
    packages: { apt: 'perl', dnf: 'perl', apk: 'perl' },
  },
  {
    tool: 'patch',
    why: 'applies patches to the kernel',
    targets: ['kernel'],
    packages: { apt: 'patch', dnf: 'patch', apk: 'patch' },
  },
  {
    tool: '/usr/include/gelf.h',
    why: 'lets the kernel build read its own objects',
    targets: ['kernel'],
    packages: { apt: 'libelf-dev', dnf: 'elfutils-libelf-devel', apk: 'elfutils-dev' },
  },
  {
    tool: '/usr/include/openssl/ssl.h',
    why: 'lets the measured variant check signatures',
    targets: ['kernel'],
    packages: { apt: 'libssl-dev', dnf: 'openssl-devel', apk: 'openssl-dev' },
  },
  {
    tool: 'qemu-system-x86_64',
    why: 'boots the guest',
    targets: ['boot'],
    packages: { apt: 'qemu-system-x86', dnf: 'qemu-system-x86', apk: 'qemu-system-x86_64' },
  },
  ...ARCH_NAMES.flatMap(foreignTools),
  {
    tool: 'dracut',
    why: 'takes a guest from this host (BUILD_METHOD=dracut)',
    targets: ['dracut', 'test'],
    packages: { apt: 'dracut-core', dnf: 'dracut', apk: 'dracut' },
  },
  {
    tool: 'cpio',
    why: 'reads what dracut wrote, and every initrd in the tests',
    targets: ['dracut', 'test'],
    packages: { apt: 'cpio', dnf: 'cpio', apk: 'cpio' },
  },
  {
    tool: 'bsdtar',
    why: 'second reader of the initrd in the tests',
    targets: ['test'],
    packages: { apt: 'libarchive-tools', dnf: 'bsdtar', apk: 'libarchive-tools' },
  },
  {
    tool: 'ssh-keygen',
    why: 'signs outputs with an OpenSSH key, and verifies them',
    targets: ['proof', 'test'],
    packages: { apt: 'openssh-client', dnf: 'openssh', apk: 'openssh-keygen' },
  },
  {
    tool: 'minisign',
    why: 'signs outputs with a minisign key, and verifies them',
    targets: ['proof', 'test'],
    packages: { apt: 'minisign', dnf: 'minisign', apk: 'minisign' },
  },
  {
    tool: 'debugfs',
    why: 'reads the files of an ext4 image for make verify and make repro',
    targets: ['proof', 'test'],
    packages: { apt: 'e2fsprogs', dnf: 'e2fsprogs', apk: 'e2fsprogs-extra' },
  },
  {
    tool: 'unsquashfs',
    why: 'reads the files of a squashfs for make verify and make repro',
    targets: ['proof', 'test'],
    packages: { apt: 'squashfs-tools', dnf: 'squashfs-tools', apk: 'squashfs-tools' },
  },
  {
    tool: 'taskset',
    why: 'gives the second build of make repro one processor',
    targets: ['proof', 'test'],
    packages: { apt: 'util-linux', dnf: 'util-linux', apk: 'util-linux-misc' },
  },
  {
    tool: 'dnf',
    why: 'installs rpm packages into a new rootfs',
    targets: ['dnf', 'test'],
    packages: { apt: 'dnf', dnf: 'dnf', apk: 'dnf' },
  },
  {
    tool: 'rpmbuild',
    why: 'makes the packages of the tests',
    targets: ['test'],
    packages: { apt: 'rpm', dnf: 'rpm-build', apk: 'rpm-dev' },
  },
  {
    tool: 'createrepo_c',
    why: 'makes a repository of the rpm packages that a lock names',
    targets: ['dnf', 'test'],
    packages: { apt: 'createrepo-c', dnf: 'createrepo_c', apk: 'createrepo_c' },
  },
  {
    tool: 'rpm',
    why: "reads the package database of rpm's distros",
    targets: ['dnf', 'proof', 'test'],
    packages: { apt: 'rpm', dnf: 'rpm', apk: 'rpm' },
  },
  {
    tool: 'e2fsck',
    why: 'checks every image in the tests',
    targets: ['test'],
    packages: { apt: 'e2fsprogs', dnf: 'e2fsprogs', apk: 'e2fsprogs' },
  },
  {
    tool: 'fdisk',
    why: 'reads the partition tables in the tests',
    targets: ['test'],
    packages: { apt: 'fdisk', dnf: 'util-linux', apk: 'sfdisk' },
  },
  {
    tool: 'gpg',
    why: 'signs the archives of the tests',
    targets: ['test'],
    packages: { apt: 'gnupg', dnf: 'gnupg2', apk: 'gnupg' },
  },
  {
    tool: 'apt-ftparchive',
    why: 'makes the archives of the tests',
    targets: ['test'],
    packages: { apt: 'apt-utils' },
  },
  {
    tool: 'shellcheck',
    why: 'checks what shell there is',
    targets: ['test'],
    packages: { apt: 'shellcheck', dnf: 'ShellCheck', apk: 'shellcheck' },
  },
]

/** What a host of another architecture needs for guests of this one; the tests build aarch64. */
function foreignTools(arch: ArchName): HostTool[] {
  const { triplet, qemu, qemuSystem } = ARCHES[arch]
  const targets: ToolTarget[] = [`foreign-${arch}`, ...(arch === 'aarch64' ? (['test'] as const) : [])]
  const apt = APT_FOREIGN[arch]
  const gnu = triplet.replaceAll('_', '-')
  return [
    {
      tool: `qemu-system-${qemuSystem}`,
      why: `boots a guest with ARCH=${arch}`,
      targets,
      packages: { apt: apt.qemu, dnf: `qemu-system-${qemuSystem}`, apk: `qemu-system-${qemuSystem}` },
    },
    {
      tool: `qemu-${qemu}-static`,
      why: "runs a foreign guest's package scripts",
      targets,
      packages: { apt: 'qemu-user-static', dnf: 'qemu-user-static', apk: `qemu-${qemu}` },
    },
    {
      tool: 'arch-test',
      why: 'tells which architectures this host can run',
      targets,
      packages: { apt: 'arch-test', dnf: 'arch-test' },
    },
    {
      tool: 'update-binfmts',
      why: 'registers the foreign program runner',
      targets,
      packages: { apt: 'binfmt-support' },
    },
    {
      tool: `${triplet}-gcc`,
      why: `compiles the bundled agent for ${arch}`,
      targets,
      packages: { apt: `gcc-${gnu}`, dnf: `gcc-${triplet}` },
    },
    {
      tool: `/usr/${triplet}/lib/libc.a`,
      why: `the C library of the agent for ${arch}`,
      targets,
      packages: { apt: apt.libc, dnf: `glibc-${triplet}` },
    },
  ]
}

/** `mmdebstrap: package mmdebstrap (installs Debian packages into a new rootfs)` */
export function packageHint(tool: string): string {
  const row = HOST_TOOLS.find((candidate) => candidate.tool === tool)
  if (row === undefined) return `${tool}: not found in PATH`
  const names = [...new Set(Object.values(row.packages))]
  return `${tool}: package ${names.join(' or ')} (${row.why})`
}
