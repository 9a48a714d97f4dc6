// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../scripts/errors.ts'

/** What the build needs to know about one way to compress an initrd. */
export interface Compression {
  /** The compressor and its options; it reads stdin and writes stdout. Absent: nothing to run. */
  readonly argv?: readonly [string, ...string[]]
  readonly levels?: { readonly min: number; readonly max: number; readonly default: number }
  /** Size of the parts that are compressed each for itself, up to a level; absent: the whole at once. */
  readonly parts?: readonly { readonly upTo: number; readonly mib: number }[]
  /** Extra option that the highest levels need. */
  readonly highLevels?: { readonly from: number; readonly option: string }
  /** Debian package of the compressor. */
  readonly debianPackage?: string
  /** Kernel option without which the guest cannot unpack it. Source: usr/Kconfig. */
  readonly kernelSymbol: string
  /** First bytes of the file, in hexadecimal. */
  readonly magic: string
}

/**
 * The compressions on offer, by the name the user types.
 *
 * Sizes and times in the comments: a Debian rootfs of 205 MB and 10,859 entries on two cores, read
 * from a file, with the versions of Debian 12. Every argv here gives the same bytes on any number of cores.
 */
export const COMPRESSIONS = {
  zstd: {
    // `-T` with any count cuts the input into jobs whose size follows from the level alone (zstd,
    // ZSTDMT_computeTargetJobLog), so -T0, -T1 and -T2 agree byte for byte; --single-thread makes no
    // jobs and gives other bytes from the second job on. Hence always a `-T`, never --single-thread.
    // --no-check: parts are joined, and no checksum of the whole can be made from theirs.
    argv: ['zstd', '-q', '-T0', '--no-check', '-c'],
    // Level 3: 66.5 MB in 0.7 s, 6: 62.2 MB in 1.3 s, 9: 58.6 MB in 1.9 s, 12: 58.2 MB in 4.3 s.
    // 6 unless asked: a twentieth larger than 9, in two thirds of its time, and as quick to unpack.
    // The kernel unpacks windows up to 128 MiB (lib/decompress_unzstd.c, ZSTD_WINDOWSIZE_MAX). Level 22
    // uses just that, so no level is refused; `--long` above 27 would be. The guest needs that memory.
    levels: { min: 1, max: 22, default: 6 },
    // As large as zstd's own jobs at these levels: 0.4 % larger than the whole at once (level 6).
    parts: [
      { upTo: 8, mib: 8 },
      { upTo: 15, mib: 16 },
      { upTo: 19, mib: 64 },
    ],
    highLevels: { from: 20, option: '--ultra' },
    debianPackage: 'zstd',
    kernelSymbol: 'CONFIG_RD_ZSTD',
    magic: '28b52ffd',
  },
  gzip: {
    // -n: no time stamp in the header.
    argv: ['gzip', '-n', '-c'],
    // Level 6: 76.0 MB in 7.9 s, 9: 75.6 MB in 28 s.
    levels: { min: 1, max: 9, default: 6 },
    debianPackage: 'gzip',
    kernelSymbol: 'CONFIG_RD_GZIP',
    magic: '1f8b',
  },
  xz: {
    // The kernel checks CRC32 only (lib/xz/xz_dec_stream.c). -T1: since xz 5.6 several threads are the
    // default, and their blocks are other bytes than those of one thread.
    argv: ['xz', '-q', '-T1', '--check=crc32', '-c'],
    // Level 6: 48.5 MB in 78 s.
    levels: { min: 0, max: 9, default: 6 },
    debianPackage: 'xz-utils',
    kernelSymbol: 'CONFIG_RD_XZ',
    magic: 'fd377a585a00',
  },
  lz4: {
    // -l: the legacy frame is the only one the kernel reads (lib/decompress_unlz4.c, ARCHIVE_MAGICNUMBER).
    argv: ['lz4', '-q', '-l', '-c'],
    // Level 9: 85.6 MB in 5.5 s.
    levels: { min: 1, max: 12, default: 9 },
    debianPackage: 'lz4',
    kernelSymbol: 'CONFIG_RD_LZ4',
    magic: '02214c18',
  },
  none: {
    kernelSymbol: 'CONFIG_BLK_DEV_INITRD',
    magic: '303730373031',
  },
} as const satisfies Record<string, Compression>

export type CompressionName = keyof typeof COMPRESSIONS

/**
 * The command that compresses stdin to stdout, or undefined when there is nothing to run.
 *
 * Run it with an environment of its own: `XZ_OPT`, `ZSTD_NBTHREADS` and the like change the bytes.
 *
 * @throws BuildError E_CONFIG when the compression has no such level
 */
export function compressorArgv(name: CompressionName, level?: number): [string, ...string[]] | undefined {
  const { argv, levels, highLevels }: Compression = COMPRESSIONS[name]
  if (argv === undefined || levels === undefined) {
    if (level !== undefined) throw new BuildError('E_CONFIG', `compression ${name}: takes no level`)
    return undefined
  }
  const chosen = level ?? levels.default
  if (!Number.isInteger(chosen) || chosen < levels.min || chosen > levels.max) {
    throw new BuildError(
      'E_CONFIG',
      `${name} level ${String(chosen)}: expected ${String(levels.min)} to ${String(levels.max)}`,
    )
  }
  const high = highLevels !== undefined && chosen >= highLevels.from ? [highLevels.option] : []
  return [...argv, ...high, `-${String(chosen)}`]
}

/**
 * Size of the parts an archive is cut into, each compressed for itself; undefined when it is compressed
 * as a whole. Unit: bytes.
 */
export function partBytes(name: CompressionName, level?: number): number | undefined {
  const { parts, levels }: Compression = COMPRESSIONS[name]
  const chosen = level ?? levels?.default ?? 0
  const row = parts?.find(({ upTo }) => chosen <= upTo)
  return row === undefined ? undefined : row.mib << 20
}
