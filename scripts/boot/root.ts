// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../errors.ts'
import { configOf, missingSymbols } from '../kernel-config.ts'
import type { ImageNeeds } from '../kernel-config.ts'
import type { Manifest } from '../manifest.ts'
import type { Settings } from '../settings.ts'
import type { BootKernel } from './kernel.ts'

/** What a manifest tells of a hash tree. */
interface Verity {
  readonly rootHash: string
  readonly salt: string
  readonly dataBlocks: number
  readonly dataBlockSize: number
  readonly hashBlockSize: number
  readonly algorithm: string
  readonly hashType: number
}

/** The root of an image, as a guest mounts it. */
export interface ImageRoot extends ImageNeeds {
  readonly device: string
  /** Words of the kernel command line. */
  readonly words: readonly string[]
}

const SECTOR_BYTES = 512

/** The root that the manifest of an image tells of; ext4 without a manifest. */
export function imageRoot(manifest: Manifest | undefined, disk: Settings['BOOT_DISK']): ImageRoot {
  const { filesystem: told, verity } = (manifest?.result ?? {}) as {
    readonly filesystem?: { readonly type?: string; readonly compression?: string }
    readonly verity?: Verity
  }
  const partition = (number: number): string =>
    disk === 'nvdimm' ? `/dev/pmem0p${String(number)}` : `/dev/vda${String(number)}`
  const filesystem = told?.type ?? 'ext4'
  const type = `rootfstype=${filesystem}`
  const facts = { filesystem, compression: told?.compression ?? 'none', isMeasured: verity !== undefined }
  if (verity === undefined) {
    const device = partition(1)
    return { ...facts, device, words: [`root=${device}`, type, 'ro', 'rootwait'] }
  }
  const device = '/dev/dm-0'
  const table = verityTable(verity, partition(1), partition(2))
  // Without rootwait: the device is there before the root is looked for, or never.
  return { ...facts, device, words: [`dm-mod.create="${table}"`, `root=${device}`, type, 'ro'] }
}

/**
 * The value of `dm-mod.create`: a device without name and number, and its one target.
 *
 * A block that is not as it was measured stops the guest, instead of failing some read.
 *
 * Source: linux, Documentation/admin-guide/device-mapper/dm-init.rst and verity.rst
 */
function verityTable(verity: Verity, data: string, hash: string): string {
  const { dataBlocks, dataBlockSize, hashBlockSize } = verity
  const sectors = (dataBlocks * dataBlockSize) / SECTOR_BYTES
  return [
    `dm-verity,,,ro,0 ${String(sectors)} verity ${String(verity.hashType)} ${data} ${hash}`,
    `${String(dataBlockSize)} ${String(hashBlockSize)} ${String(dataBlocks)} 0`,
    `${verity.algorithm} ${verity.rootHash} ${verity.salt} 1 panic_on_corruption`,
  ].join(' ')
}

/**
 * Check that a kernel can read an image, when its configuration is known.
 *
 * @throws BuildError E_CONFIG naming the symbols that it lacks
 */
export function checkReads(kernel: BootKernel, root: ImageRoot, image: string): void {
  const missing = missingSymbols(kernel.file, root, kernel.modulesDir !== undefined)
  if (missing.length === 0) return
  const what = [root.filesystem, ...(root.compression === 'none' ? [] : [root.compression])].join(' ')
  throw new BuildError(
    'E_CONFIG',
    `${image}: ${kernel.origin} cannot boot it (${root.isMeasured ? 'measured ' : ''}${what})`,
    {
      because: missing.map((symbol) => `${symbol}: is not built in, by ${configOf(kernel.file) ?? ''}`),
      hint: root.isMeasured
        ? 'make kernel KERNEL_VARIANT=measured    builds one that can'
        : 'make kernel    builds one that can',
    },
  )
}
