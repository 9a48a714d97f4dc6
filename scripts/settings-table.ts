// SPDX-License-Identifier: Apache-2.0

interface RowBase {
  readonly default: string
  /** Defaults that differ for a distro. */
  readonly byDistro?: Readonly<Record<string, string>>
  /** One line for `make help`. */
  readonly help: string
  readonly group: 'what' | 'agent' | 'rootfs' | 'image' | 'initrd' | 'kernel' | 'boot' | 'where'
}

/** One setting: its type, default, unit, allowed values and help. */
export type SettingRow =
  | (RowBase & { readonly type: 'boolean'; readonly default: 'yes' | 'no' })
  | (RowBase & {
      readonly type: 'integer'
      readonly min: number
      readonly max: number
      readonly unit?: string
    })
  | (RowBase & { readonly type: 'choice'; readonly allowed: readonly string[] })
  /** The pattern is that of each word. */
  | (RowBase & { readonly type: 'words'; readonly pattern?: RegExp; readonly expected?: string })
  | (RowBase & { readonly type: 'path' })
  | (RowBase & { readonly type: 'url' })
  | (RowBase & { readonly type: 'text'; readonly pattern?: RegExp; readonly expected?: string })

/** A name that is safe in a path and on a command line. */
const PLAIN_WORD = /^[A-Za-z0-9][A-Za-z0-9._+-]*$/

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** Largest disk image: 16 TiB, the limit of ext4 without 64-bit block numbers. Unit: MiB. */
const MAX_IMAGE_MIB = 16 * 1024 * 1024 - 1

/**
 * Every setting there is. Validation, `make help`, the README's table and what a builder container
 * is handed are all made from this table.
 */
export const SETTINGS = {
  DISTRO: {
    group: 'what',
    type: 'text',
    default: 'ubuntu',
    pattern: PLAIN_WORD,
    help: 'Distro of the guest; make list-distros names them',
  },
  OS_VERSION: {
    group: 'what',
    type: 'text',
    default: '',
    pattern: PLAIN_WORD,
    help: "Release of the distro (default: the distro's own)",
  },
  ARCH: {
    group: 'what',
    type: 'choice',
    default: 'host',
    allowed: ['host', 'x86_64', 'aarch64', 'ppc64le', 's390x'],
    help: 'Architecture of the guest',
  },
  AGENT_INIT: {
    group: 'what',
    type: 'boolean',
    default: 'no',
    byDistro: { alpine: 'yes' },
    help: 'The agent is PID 1 (yes), or systemd starts it (no)',
  },
  BUILD_METHOD: {
    group: 'what',
    type: 'choice',
    default: 'distro',
    allowed: ['distro', 'dracut'],
    help: "Make the rootfs from a distro's packages, or by dracut from this host",
  },
  DRACUT_KVERSION: {
    group: 'what',
    type: 'text',
    default: '',
    pattern: PLAIN_WORD,
    help: 'Release of the guest kernel whose modules dracut adds, as uname -r',
  },
  DRACUT_CONF_DIR: {
    group: 'what',
    type: 'path',
    default: '',
    help: "Folder of dracut's *.conf files (default: dracut/dracut.conf.d)",
  },
  USE_DOCKER: {
    group: 'what',
    type: 'boolean',
    default: 'no',
    help: 'Build in a container of Docker, which needs no tool on this host',
  },
  USE_PODMAN: {
    group: 'what',
    type: 'boolean',
    default: 'no',
    help: 'Build in a container of Podman',
  },
  DOCKER_RUNTIME: {
    group: 'what',
    type: 'text',
    default: '',
    pattern: PLAIN_WORD,
    help: "OCI runtime of those containers (default: the engine's own)",
  },
  IMAGE_REGISTRY: {
    group: 'what',
    type: 'text',
    default: 'docker.io',
    pattern: /^[A-Za-z0-9.-]+(:\d+)?(\/[a-z0-9._-]+)*\/?$/,
    expected: 'a registry such as docker.io or mirror.example:5000',
    help: 'Registry that has the base image of the builder',
  },
  BUILDER_BASE: {
    group: 'what',
    type: 'text',
    default: '',
    pattern: /^[A-Za-z0-9][A-Za-z0-9./:@_-]*$/,
    expected: 'the name of an image of Debian',
    help: 'Another base image of the builder (default: Debian 12, by digest)',
  },
  BUILDER: {
    group: 'what',
    type: 'text',
    default: '',
    pattern: /^(?!-)([A-Za-z0-9._-]|\{arch\})+$|^(unix|tcp|ssh):\/\/\S+$/,
    expected: 'a URL (tcp://, ssh://, unix://), or the name of a docker context or podman connection',
    help: 'Engine elsewhere that builds; {arch} stands for the guest architecture',
  },
  BUILDER_NODE: {
    group: 'what',
    type: 'text',
    default: '',
    pattern: /^\/\S+$/,
    expected: 'an absolute path, in which {arch} may stand for the architecture of the engine',
    help: 'Node program for the builder (default: the one that runs make)',
  },
  EXTRA_PKGS: {
    group: 'what',
    type: 'words',
    default: '',
    // To a package manager that is an option.
    pattern: /^[^-]/,
    expected: 'names of packages, none with a dash in front',
    help: 'Packages to add to the guest',
  },
  SECCOMP: { group: 'what', type: 'boolean', default: 'yes', help: 'Install libseccomp, which agents link' },
  DEBUG: { group: 'what', type: 'boolean', default: 'no', help: 'Show every command and its output' },

  AGENT_SOURCE_BIN: {
    group: 'agent',
    type: 'path',
    default: '',
    help: 'Agent binary to install (default: the bundled agent)',
  },
  AGENT_TARBALL: {
    group: 'agent',
    type: 'path',
    default: '',
    help: 'Archive with the agent and its units, unpacked into the rootfs',
  },
  AGENT_REPO: {
    group: 'agent',
    type: 'text',
    default: '',
    pattern: /^(?!-)\S+$/,
    expected: 'a git URL or a path without spaces',
    help: 'Git repository to build the agent from, by its make install',
  },
  AGENT_VERSION: {
    group: 'agent',
    type: 'text',
    default: '',
    pattern: /^(?!-)[A-Za-z0-9._/+-]+$/,
    expected: 'a tag, branch or commit',
    help: 'Version to check out in AGENT_REPO',
  },
  AGENT_SOURCE_DIR: {
    group: 'agent',
    type: 'text',
    default: '.',
    pattern: /^(?!\/)(?!.*\.\.)[A-Za-z0-9._/-]+$/,
    expected: 'a path inside AGENT_REPO',
    help: 'Folder of AGENT_REPO that holds the Makefile of the agent',
  },
  AGENT_BIN: {
    group: 'agent',
    type: 'text',
    default: 'kata-agent',
    pattern: PLAIN_WORD,
    help: 'Name of the agent in /usr/bin of the guest',
  },
  LIBC: {
    group: 'agent',
    type: 'choice',
    default: 'musl',
    allowed: ['musl', 'gnu'],
    help: 'C library handed to the make of AGENT_REPO',
  },
  AGENT_POLICY: {
    group: 'agent',
    type: 'boolean',
    default: 'no',
    help: 'Install AGENT_POLICY_FILE for an agent that enforces a policy',
  },
  AGENT_POLICY_FILE: { group: 'agent', type: 'path', default: '', help: 'Policy for the agent' },

  ROOTFS_DIR: {
    group: 'rootfs',
    type: 'path',
    default: '',
    help: 'The rootfs folder (default: ROOTFS_BUILD_DEST/<distro>_rootfs)',
  },
  REPO_URL: { group: 'rootfs', type: 'url', default: '', help: "Package mirror (default: the distro's own)" },
  REPO_COMPONENTS: {
    group: 'rootfs',
    type: 'words',
    default: 'main',
    help: 'Components of an apt or apk repository',
  },
  REPO_KEYRING: {
    group: 'rootfs',
    type: 'path',
    default: '',
    help: 'Keys that sign the mirror: a keyring, for apk and dnf also a folder',
  },
  REPO_KEY: {
    group: 'rootfs',
    type: 'path',
    default: '',
    help: 'One more key of an apk repository, or a folder of *.rsa.pub files',
  },
  REPO_EXTRA: {
    group: 'rootfs',
    type: 'words',
    default: '',
    help: 'More apk repositories: URL, or @tag=URL for packages named name@tag',
  },
  DISTRO_REPO: {
    group: 'rootfs',
    type: 'boolean',
    default: 'no',
    help: 'Packages come from the dnf repositories that this host has set up',
  },
  SELINUX: {
    group: 'rootfs',
    type: 'boolean',
    default: 'no',
    help: "The guest has SELinux's policy for containers (distros with dnf)",
  },
  REFRESH: {
    group: 'rootfs',
    type: 'choice',
    default: 'daily',
    allowed: ['daily', 'always', 'never'],
    help: 'When to ask the mirror for newer packages',
  },
  KERNEL_MODULES_DIR: {
    group: 'rootfs',
    type: 'path',
    default: '',
    help: 'Modules of the guest kernel: a lib/modules/<version> folder',
  },
  ROOTFS_OVERLAY: {
    group: 'rootfs',
    type: 'path',
    default: '',
    help: 'Folder whose files are laid over the guest last, owned by root',
  },
  GUEST_HOOKS_TARBALL: { group: 'rootfs', type: 'path', default: '', help: 'Archive of OCI hooks' },
  PAUSE_IMAGE_TARBALL: { group: 'rootfs', type: 'path', default: '', help: 'Archive of the pause image' },
  COCO_GUEST_COMPONENTS_TARBALL: {
    group: 'rootfs',
    type: 'path',
    default: '',
    help: 'Archive of confidential guest components',
  },
  CONFIDENTIAL_GUEST: {
    group: 'rootfs',
    type: 'boolean',
    default: 'no',
    help: 'Mount /run with half of the memory, for encrypted images',
  },
  KEEP_PACKAGE_DB: {
    group: 'rootfs',
    type: 'boolean',
    default: 'yes',
    help: 'Keep the package database in the guest; no saves space',
  },
  KEEP_DOCS: {
    group: 'rootfs',
    type: 'boolean',
    default: 'no',
    help: 'Keep manual pages, other documents and translations',
  },
  REMOVE_UNITS: {
    group: 'rootfs',
    type: 'boolean',
    default: 'no',
    help: 'Delete systemd units a micro-VM does without (flag -d)',
  },

  FS_TYPE: {
    group: 'image',
    type: 'choice',
    default: 'ext4',
    allowed: ['ext4', 'xfs', 'erofs', 'squashfs'],
    help: 'Filesystem of the image',
  },
  FS_COMPRESSION: {
    group: 'image',
    type: 'choice',
    default: 'default',
    allowed: ['default', 'none', 'lz4', 'lz4hc', 'gzip', 'xz', 'zstd'],
    help: 'Compression of erofs (default: lz4hc) and of squashfs (default: zstd)',
  },
  FS_UUID: {
    group: 'image',
    type: 'text',
    default: '',
    pattern: UUID,
    expected: 'a UUID in lower case, as uuidgen prints it',
    help: 'UUID of the filesystem (default: made from its content)',
  },
  FS_HASH_SEED: {
    group: 'image',
    type: 'text',
    default: '',
    pattern: UUID,
    expected: 'a UUID in lower case, as uuidgen prints it',
    help: 'UUID that ext4 hashes names with (default: made from its content)',
  },
  DISK_SIGNATURE: {
    group: 'image',
    type: 'text',
    default: '',
    pattern: /^[0-9a-f]{8}$/,
    expected: '8 hex digits in lower case',
    help: 'Signature of the partition tables (default: made from the content)',
  },
  MEASURED_ROOTFS: {
    group: 'image',
    type: 'boolean',
    default: 'no',
    help: 'Add a dm-verity hash tree; root_hash_<BUILD_VARIANT>.txt tells it',
  },
  VERITY_SALT: {
    group: 'image',
    type: 'text',
    default: '',
    pattern: /^([0-9a-f]{2}){1,256}$/,
    expected: 'an even number of hex digits in lower case, 512 at most',
    help: 'Salt of the hash tree (default: made from the content)',
  },
  VERITY_KEY: {
    group: 'image',
    type: 'path',
    default: '',
    help: 'Private key (PEM) that signs the root hash, as PKCS#7',
  },
  VERITY_CERT: {
    group: 'image',
    type: 'path',
    default: '',
    help: 'Certificate (PEM) of VERITY_KEY',
  },
  BUILD_VARIANT: {
    group: 'image',
    type: 'text',
    default: '',
    pattern: PLAIN_WORD,
    help: 'Name of a variant, in the name of the root hash file',
  },
  BLOCK_SIZE: {
    group: 'image',
    type: 'choice',
    default: '4096',
    allowed: ['1024', '2048', '4096'],
    help: 'Block size of the filesystem (bytes)',
  },
  IMG_SIZE: {
    group: 'image',
    type: 'integer',
    default: '',
    min: 8,
    max: MAX_IMAGE_MIB,
    unit: 'MiB',
    help: 'Size of the image file (default: as small as the rules allow)',
  },
  ROOT_FREE_SPACE: {
    group: 'image',
    type: 'integer',
    default: '0',
    min: 0,
    max: MAX_IMAGE_MIB,
    unit: 'MiB',
    help: 'Free space to leave in the root filesystem',
  },
  IMAGE_SIZE_ALIGNMENT_MB: {
    group: 'image',
    type: 'integer',
    default: '',
    min: 1,
    max: 65536,
    unit: 'MiB',
    help: 'Image sizes are multiples of this (default: 128; erofs, squashfs: 2)',
  },
  SKIP_DAX_HEADER: {
    group: 'image',
    type: 'boolean',
    default: 'no',
    help: 'Leave out the header for NVDIMM guests: a plain disk',
  },
  SKIP_ROOTFS_CHECK: {
    group: 'image',
    type: 'boolean',
    default: 'no',
    help: 'Pack a rootfs that has no init or agent',
  },

  INITRD_COMPRESSION: {
    group: 'initrd',
    type: 'choice',
    default: 'gzip',
    allowed: ['zstd', 'gzip', 'xz', 'lz4', 'none'],
    help: 'Compression; zstd is smaller and faster, gzip unpacks everywhere',
  },
  INITRD_COMPRESSION_LEVEL: {
    group: 'initrd',
    type: 'integer',
    default: '',
    min: 0,
    max: 22,
    help: 'Level of the compressor (default: by compression)',
  },
  DEV: {
    group: 'initrd',
    type: 'boolean',
    default: 'no',
    help: 'Add what changed to the initrd that is there; for trying out only',
  },

  KERNEL_SOURCE: {
    group: 'kernel',
    type: 'choice',
    default: 'distro',
    allowed: ['distro', 'kernel.org', 'git', 'local'],
    help: "Where the sources of the kernel come from (distro: Debian's package)",
  },
  KERNEL_VERSION: {
    group: 'kernel',
    type: 'text',
    default: '',
    pattern: /^\d+\.\d+(\.\d+)?$/,
    expected: 'a version such as 6.1 (distro) or 6.6.74 (kernel.org)',
    help: "Its version (default: the release's; first of versions.yaml)",
  },
  KERNEL_MIRROR: {
    group: 'kernel',
    type: 'url',
    default: '',
    help: 'Mirror of pub/linux/kernel for KERNEL_SOURCE=kernel.org',
  },
  KERNEL_KEYRING: {
    group: 'kernel',
    type: 'path',
    default: '',
    help: 'OpenPGP keyring that signs sha256sums.asc (default: kernel.org)',
  },
  KERNEL_REPO: {
    group: 'kernel',
    type: 'text',
    default: '',
    pattern: /^(?!-)\S+$/,
    expected: 'a git URL or a path without spaces',
    help: 'Git repository for KERNEL_SOURCE=git',
  },
  KERNEL_TAG: {
    group: 'kernel',
    type: 'text',
    default: '',
    pattern: /^(?!-)[A-Za-z0-9._/+-]+$/,
    expected: 'a tag, branch or commit',
    help: 'Tag, branch or commit of KERNEL_REPO',
  },
  KERNEL_TREE: {
    group: 'kernel',
    type: 'path',
    default: '',
    help: 'Folder or tarball of sources for KERNEL_SOURCE=local; only read',
  },
  KERNEL_PATCHES: {
    group: 'kernel',
    type: 'path',
    default: '',
    help: 'Folder of patches: <series>/*.patch and <series>/<variant>/*.patch',
  },
  KERNEL_VARIANT: {
    group: 'kernel',
    type: 'words',
    default: '',
    help: 'Variants of the kernel: firecracker, measured, nested, debug, lcow',
  },
  KERNEL_FRAGMENTS: {
    group: 'kernel',
    type: 'path',
    default: '',
    help: 'Folder of configuration fragments (*.conf) of your own, merged last',
  },
  KERNEL_JOBS: {
    group: 'kernel',
    type: 'integer',
    default: '',
    min: 1,
    max: 4096,
    help: 'Compilers to run at once (default: one per processor)',
  },
  CROSS_COMPILE: {
    group: 'kernel',
    type: 'text',
    default: '',
    pattern: /^[A-Za-z0-9_./+-]+-$/,
    expected: 'the prefix of a compiler, such as aarch64-linux-gnu-',
    help: 'Prefix of the compiler for a foreign ARCH (default: the usual one)',
  },
  PREFIX: {
    group: 'kernel',
    type: 'path',
    default: '/usr',
    help: 'make install-kernel fills PREFIX/share/kata-containers',
  },

  BOOT: {
    group: 'boot',
    type: 'choice',
    default: 'newest',
    allowed: ['newest', 'image', 'initrd'],
    help: 'Which artifact make boot and make shell start',
  },
  KERNEL: {
    group: 'boot',
    type: 'path',
    default: '',
    help: "Guest kernel to boot with (default: built here, else the distro's)",
  },
  KERNEL_CMDLINE: {
    group: 'boot',
    type: 'text',
    default: '',
    help: 'Words to add to the kernel command line',
  },
  BOOT_COMMAND: {
    group: 'boot',
    type: 'text',
    default: '',
    help: 'Shell command to run in the guest; it fails the boot when it fails',
  },
  BOOT_DISK: {
    group: 'boot',
    type: 'choice',
    default: 'virtio-blk',
    allowed: ['virtio-blk', 'nvdimm'],
    help: 'Device that carries the image: first or second partition table',
  },
  BOOT_MACHINE: {
    group: 'boot',
    type: 'choice',
    default: 'usual',
    allowed: ['usual', 'microvm'],
    help: 'Machine that QEMU plays; microvm (x86_64) has no PCI bus',
  },
  BOOT_MEMORY: {
    group: 'boot',
    type: 'integer',
    default: '1024',
    min: 64,
    max: 1048576,
    unit: 'MiB',
    help: 'Memory of the guest',
  },
  BOOT_TIMEOUT: {
    group: 'boot',
    type: 'integer',
    default: '120',
    min: 1,
    max: 3600,
    unit: 's',
    help: 'How long to wait for the agent',
  },

  TARGET: {
    group: 'where',
    type: 'choice',
    default: 'image',
    allowed: ['rootfs', 'image', 'initrd', 'kernel'],
    help: 'What make why explains (no kernel), and make repro builds twice',
  },
  SIGN_KEY: {
    group: 'where',
    type: 'path',
    default: '',
    help: 'Secret key of OpenSSH or minisign for make sign',
  },
  VERIFY_KEY: {
    group: 'where',
    type: 'path',
    default: '',
    help: 'Public key, or allowed signers of OpenSSH, for make verify',
  },
  NAME: {
    group: 'where',
    type: 'text',
    default: '',
    pattern: /^[a-z][a-z0-9]*$/,
    expected: 'lower-case letters and digits',
    help: 'Name of the distro that make new-distro begins',
  },
  KEEP: {
    group: 'where',
    type: 'text',
    default: '10G',
    pattern: /^\d+[KMGT]?$/,
    expected: 'a size such as 10G, 500M or 0',
    help: 'How large the cache may grow; what was not used for longest goes first',
  },
  CACHE_DIR: {
    group: 'where',
    type: 'path',
    default: '',
    help: 'Folder of the cache, which builds may share (default: WORKDIR/cache)',
  },
  REMOTE_CACHE: {
    group: 'where',
    type: 'text',
    default: '',
    pattern: /^(https?:\/\/)?[A-Za-z0-9.-]+(:\d+)?(\/[a-z0-9._-]+)+\/?$/,
    expected: 'a repository such as registry.example/team/osbuilder, http:// before it for one without TLS',
    help: 'Repository of an OCI registry with trees that others have built',
  },
  REMOTE_CACHE_PUSH: {
    group: 'where',
    type: 'boolean',
    default: 'no',
    help: 'Store there what was built here',
  },
  LOCK_FILE: {
    group: 'where',
    type: 'path',
    default: 'osbuilder.lock',
    help: 'Lock that is used when it is there; /dev/null builds without',
  },
  WRITE: {
    group: 'where',
    type: 'boolean',
    default: 'no',
    help: 'make lock-update writes what it shows',
  },
  VENDOR_DIR: {
    group: 'where',
    type: 'path',
    default: 'vendor',
    help: 'Folder that make vendor fills, and whose files are not downloaded',
  },
  OFFLINE: {
    group: 'where',
    type: 'boolean',
    default: 'no',
    help: 'Build from LOCK_FILE and VENDOR_DIR, without any network',
  },
  WORKDIR: { group: 'where', type: 'path', default: 'workdir', help: 'Folder that holds everything made' },
  ROOTFS_BUILD_DEST: {
    group: 'where',
    type: 'path',
    default: '',
    help: 'Folder of the rootfs (default: WORKDIR)',
  },
  IMAGES_BUILD_DEST: {
    group: 'where',
    type: 'path',
    default: '',
    help: 'Folder of images and initrds (default: WORKDIR)',
  },
  SOURCE_DATE_EPOCH: {
    group: 'where',
    type: 'integer',
    default: '',
    min: 0,
    max: 4294967295,
    unit: 's since 1970',
    help: 'The one clock of everything made (default: last commit)',
  },
  OSBUILDER_VERSION: {
    group: 'where',
    type: 'text',
    default: '',
    pattern: /^\S+$/,
    help: 'Version to write into the guest (default: from git)',
  },
  DESTDIR: {
    group: 'where',
    type: 'path',
    default: '',
    help: 'Put before INSTALL_DIR and PREFIX by the install targets',
  },
  INSTALL_DIR: {
    group: 'where',
    type: 'path',
    default: '/usr/libexec/kata-containers/osbuilder',
    help: 'Folder that make install-scripts fills',
  },
  HTTP_PROXY: { group: 'where', type: 'text', default: '', help: 'Proxy for http (as http_proxy)' },
  HTTPS_PROXY: { group: 'where', type: 'text', default: '', help: 'Proxy for https (as https_proxy)' },
  NO_PROXY: { group: 'where', type: 'text', default: '', help: 'Hosts to reach without proxy (as no_proxy)' },
} as const satisfies Record<string, SettingRow>

export type SettingName = keyof typeof SETTINGS
