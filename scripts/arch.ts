// SPDX-License-Identifier: Apache-2.0

/** What differs from one guest architecture to the next, by its `uname -m` name. */
export interface Arch {
  /** Debian's name. Source: dpkg-architecture(1). */
  readonly debian: string
  /** ELF `e_machine`, class and byte order. Source: elf.h. */
  readonly elf: { readonly machine: number; readonly bits: 32 | 64; readonly littleEndian: boolean }
  /** GNU triplet of the cross compiler, with its Debian packages. */
  readonly triplet: string
  /** Name of the qemu-user program. */
  readonly qemu: string
  /** Name of the qemu-system program. */
  readonly qemuSystem: string
  /** QEMU machine type without hardware acceleration quirks. */
  readonly machine: string
  readonly console: string
  /** Debian's kernel package for virtual machines. */
  readonly kernelPackage: string
  /** File name of the boot kernel in Debian's package. */
  readonly kernelFile: string
}

export const ARCHES = {
  x86_64: {
    debian: 'amd64',
    elf: { machine: 62, bits: 64, littleEndian: true },
    triplet: 'x86_64-linux-gnu',
    qemu: 'x86_64',
    qemuSystem: 'x86_64',
    machine: 'q35',
    console: 'ttyS0',
    kernelPackage: 'linux-image-cloud-amd64',
    kernelFile: 'vmlinuz',
  },
  aarch64: {
    debian: 'arm64',
    elf: { machine: 183, bits: 64, littleEndian: true },
    triplet: 'aarch64-linux-gnu',
    qemu: 'aarch64',
    qemuSystem: 'aarch64',
    machine: 'virt',
    console: 'ttyAMA0',
    kernelPackage: 'linux-image-cloud-arm64',
    kernelFile: 'vmlinuz',
  },
  ppc64le: {
    debian: 'ppc64el',
    elf: { machine: 21, bits: 64, littleEndian: true },
    triplet: 'powerpc64le-linux-gnu',
    qemu: 'ppc64le',
    qemuSystem: 'ppc64',
    machine: 'pseries',
    console: 'hvc0',
    kernelPackage: 'linux-image-powerpc64le',
    kernelFile: 'vmlinux',
  },
  s390x: {
    debian: 's390x',
    elf: { machine: 22, bits: 64, littleEndian: false },
    triplet: 's390x-linux-gnu',
    qemu: 's390x',
    qemuSystem: 's390x',
    machine: 's390-ccw-virtio',
    console: 'ttysclp0',
    kernelPackage: 'linux-image-s390x',
    kernelFile: 'vmlinuz',
  },
} as const satisfies Record<string, Arch>

export type ArchName = keyof typeof ARCHES

export const ARCH_NAMES = Object.keys(ARCHES) as readonly ArchName[]
