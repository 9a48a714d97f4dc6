// SPDX-License-Identifier: Apache-2.0
import type { ArchName } from '../scripts/arch.ts'

/** What differs from one architecture to the next when its kernel is built. */
export interface KernelArch {
  /** Value of make's `ARCH`. On x86 it also says how many bits. */
  readonly make: string
  /** Folder below `arch/`. */
  readonly source: string
  /** Targets of the kernel's make. */
  readonly targets: readonly string[]
  /** Compressed or ready-to-boot image, for vmlinuz.container. Source: Kata's kernel script. */
  readonly vmlinuz: string
  /** Uncompressed image, for vmlinux.container; Firecracker takes it. */
  readonly vmlinux: string
}

export const KERNEL_ARCHES: Readonly<Record<ArchName, KernelArch>> = {
  x86_64: {
    make: 'x86_64',
    source: 'x86',
    targets: ['bzImage'],
    vmlinuz: 'arch/x86/boot/bzImage',
    vmlinux: 'vmlinux',
  },
  aarch64: {
    make: 'arm64',
    source: 'arm64',
    targets: ['Image.gz'],
    vmlinuz: 'arch/arm64/boot/Image.gz',
    vmlinux: 'arch/arm64/boot/Image',
  },
  ppc64le: {
    make: 'powerpc',
    source: 'powerpc',
    targets: ['vmlinux'],
    vmlinuz: 'vmlinux',
    vmlinux: 'vmlinux',
  },
  s390x: {
    make: 's390',
    source: 's390',
    targets: ['bzImage'],
    vmlinuz: 'arch/s390/boot/bzImage',
    vmlinux: 'vmlinux',
  },
}
