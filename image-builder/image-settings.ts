// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'

import { BuildError } from '../scripts/errors.ts'
import { configOf, missingSymbols, publishedKernel } from '../scripts/kernel-config.ts'
import { hostArch, oneOf } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import { SOURCE_SETTINGS } from '../scripts/source-rootfs.ts'
import { FILESYSTEMS } from './filesystem/filesystem.ts'
import type { Compression } from './filesystem/filesystem.ts'

/** Settings that the bytes of an image depend on. */
export const IMAGE_SETTINGS = [
  ...SOURCE_SETTINGS,
  'BLOCK_SIZE',
  'DISK_SIGNATURE',
  'FS_COMPRESSION',
  'FS_HASH_SEED',
  'FS_TYPE',
  'FS_UUID',
  'IMAGE_SIZE_ALIGNMENT_MB',
  'IMG_SIZE',
  'MEASURED_ROOTFS',
  'ROOT_FREE_SPACE',
  'SKIP_DAX_HEADER',
  'VERITY_SALT',
] as const

export type ImageSettings = Readonly<
  Pick<Settings, Exclude<(typeof IMAGE_SETTINGS)[number], 'SKIP_ROOTFS_CHECK'>>
>

/** What FS_COMPRESSION means for FS_TYPE. */
export function compressionOf({
  FS_TYPE,
  FS_COMPRESSION,
}: Pick<Settings, 'FS_TYPE' | 'FS_COMPRESSION'>): Compression {
  if (FS_COMPRESSION !== 'default') return FS_COMPRESSION
  return FILESYSTEMS[FS_TYPE].compressions[0] ?? 'none'
}

/** Settings of an image that exclude each other. */
export function checkImageSettings(settings: Settings): string[] {
  const { FS_TYPE: type, BLOCK_SIZE: blockSize, VERITY_KEY: key, VERITY_CERT: cert } = settings
  const { compressions, blockSizes } = FILESYSTEMS[type]
  const problems: string[] = []
  if (!compressions.includes(compressionOf(settings))) {
    problems.push(
      compressions.length === 1
        ? `FS_COMPRESSION=${settings.FS_COMPRESSION}: ${type} has no compression; FS_TYPE=erofs and squashfs have`
        : `FS_COMPRESSION=${settings.FS_COMPRESSION}: of ${type} expected ${oneOf(compressions)}`,
    )
  }
  if (!blockSizes.includes(blockSize))
    problems.push(`BLOCK_SIZE=${blockSize}: of ${type} expected ${oneOf(blockSizes)}`)
  if (key !== '' && !settings.MEASURED_ROOTFS)
    problems.push(`VERITY_KEY=${key}: signs the root hash, which MEASURED_ROOTFS=yes makes`)
  if ((key === '') !== (cert === ''))
    problems.push(
      key === ''
        ? `VERITY_CERT=${cert}: needs the private key, VERITY_KEY`
        : `VERITY_KEY=${key}: needs its certificate, VERITY_CERT`,
    )
  for (const [name, file] of [
    ['VERITY_KEY', key],
    ['VERITY_CERT', cert],
  ] as const) {
    if (file !== '' && !existsSync(file)) problems.push(`${name}=${file}: no such file`)
  }
  return problems
}

/**
 * Check that the kernel in WORKDIR, when there is one for this guest, can read the image.
 *
 * @throws BuildError E_CONFIG naming the symbols that it lacks
 */
export function checkKernel(settings: Settings): void {
  const arch = settings.ARCH === 'host' ? hostArch() : settings.ARCH
  const kernel = publishedKernel(settings, arch, settings.MEASURED_ROOTFS)
  if (kernel === undefined) return
  const compression = compressionOf(settings)
  const needs = { filesystem: settings.FS_TYPE, compression, isMeasured: settings.MEASURED_ROOTFS }
  const missing = missingSymbols(kernel, needs, false)
  if (missing.length === 0) return
  const asked = compression === 'none' ? '' : ` FS_COMPRESSION=${compression}`
  throw new BuildError(
    'E_CONFIG',
    `FS_TYPE=${settings.FS_TYPE}${asked}: the kernel ${kernel} cannot read it`,
    {
      because: missing.map((symbol) => `${symbol}: is not built in, by ${configOf(kernel) ?? ''}`),
      hint: 'a fragment with these lines in KERNEL_FRAGMENTS, then make kernel; or another FS_TYPE or FS_COMPRESSION',
    },
  )
}
