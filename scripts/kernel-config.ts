// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import type { ArchName } from './arch.ts'
import { readManifest } from './manifest.ts'
import type { Settings } from './settings.ts'

/** What a guest kernel must be able to do to read an image. */
export interface ImageNeeds {
  readonly filesystem: string
  readonly compression: string
  readonly isMeasured: boolean
}

/** Symbols of a filesystem, without compression. */
const FILESYSTEM_SYMBOLS: Readonly<Record<string, readonly string[]>> = {
  ext4: ['EXT4_FS'],
  xfs: ['XFS_FS'],
  erofs: ['EROFS_FS'],
  squashfs: ['SQUASHFS'],
}

/** Symbols of a compression. What is not compressed is marked as gzip in a SquashFS, which the kernel checks. */
const COMPRESSION_SYMBOLS: Readonly<Record<string, string>> = {
  'erofs lz4': 'EROFS_FS_ZIP',
  'erofs lz4hc': 'EROFS_FS_ZIP',
  'squashfs none': 'SQUASHFS_ZLIB',
  'squashfs gzip': 'SQUASHFS_ZLIB',
  'squashfs lz4': 'SQUASHFS_LZ4',
  'squashfs lz4hc': 'SQUASHFS_LZ4',
  'squashfs xz': 'SQUASHFS_XZ',
  'squashfs zstd': 'SQUASHFS_ZSTD',
}

/** Symbols that must be built in: without an initrd nothing can load modules before the root is there. */
const MEASURED_SYMBOLS = ['BLK_DEV_DM', 'DM_VERITY', 'DM_INIT']

/** File with the configuration of a kernel: beside it, by its release or by its name. */
export function configOf(kernelFile: string): string | undefined {
  const release = readManifest(kernelFile)?.result['release']
  const candidates = [
    ...(typeof release === 'string' ? [join(dirname(kernelFile), `config-${release}`)] : []),
    kernelFile.replace(/vmlinu[xz]-(?=[^/]*$)/, 'config-'),
    // Where the kernel is beside its modules.
    ...(basename(kernelFile) === 'vmlinuz' ? [join(dirname(kernelFile), 'config')] : []),
  ]
  return candidates.find((file) => file !== kernelFile && existsSync(file))
}

/**
 * Symbols that a kernel lacks to read an image, as `CONFIG_X`; none when its configuration is not known.
 *
 * @param hasStage modules are loaded before the root is mounted
 */
export function missingSymbols(kernelFile: string, needs: ImageNeeds, hasStage: boolean): string[] {
  const config = configOf(kernelFile)
  if (config === undefined) return []
  return missingIn(readFileSync(config, 'utf8'), needs, hasStage)
}

/** As missingSymbols, from the text of a configuration. */
export function missingIn(config: string, needs: ImageNeeds, hasStage: boolean): string[] {
  const set = new Map(
    [...config.matchAll(/^CONFIG_(\w+)=([ym])$/gm)].map((match) => [String(match[1]), String(match[2])]),
  )
  const has = (symbol: string, mayBeModule: boolean): boolean =>
    set.get(symbol) === 'y' || (mayBeModule && set.get(symbol) === 'm')
  const { filesystem, compression, isMeasured } = needs
  const compressed = COMPRESSION_SYMBOLS[`${filesystem} ${compression}`]
  const readers = [
    ...(FILESYSTEM_SYMBOLS[filesystem] ?? []),
    ...(compressed === undefined ? [] : [compressed]),
  ]
  const missing = [
    ...readers.filter((symbol) => !has(symbol, hasStage)),
    ...(isMeasured ? MEASURED_SYMBOLS.filter((symbol) => !has(symbol, false)) : []),
  ]
  return missing.map((symbol) => `CONFIG_${symbol}`)
}

/**
 * The kernel that `make kernel` left in WORKDIR for a guest, or undefined: the one of KERNEL_VARIANT; for
 * a measured image without one, the measured variant where there is one.
 */
export function publishedKernel(
  { KERNEL_VARIANT, WORKDIR }: Pick<Settings, 'KERNEL_VARIANT' | 'WORKDIR'>,
  arch: ArchName,
  isMeasured: boolean,
): string | undefined {
  const suffix = [...new Set(KERNEL_VARIANT)].map((name) => `-${name}`).join('')
  const suffixes = suffix === '' && isMeasured ? ['-measured', ''] : [suffix]
  return suffixes
    .map((text) => join(WORKDIR, `vmlinuz${text}.container`))
    .find((file) => existsSync(file) && [undefined, arch].includes(archOf(file)))
}

function archOf(kernelFile: string): ArchName | undefined {
  return readManifest(kernelFile)?.result['arch'] as ArchName | undefined
}
