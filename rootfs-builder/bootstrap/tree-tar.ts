// SPDX-License-Identifier: Apache-2.0
import { quote } from '../../scripts/command-error.ts'
import { UNPACK_FLAGS } from '../base-tree.ts'

/**
 * Command that packs a tree as the cache keeps it; a folder and `.` follow.
 *
 * Times of access and change are of this machine; what a script wrote has the tree's clock.
 *
 * @param leftOut patterns of paths below the root
 */
export function packArgv(epochSeconds: number, leftOut: readonly string[]): string[] {
  return [
    ['tar', '--create', '--sort=name', '--format=pax'],
    ['--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime'],
    [`--mtime=@${String(epochSeconds)}`, '--clamp-mtime', '--numeric-owner', '--xattrs'],
    leftOut.map((path) => `--exclude=./${path}`),
  ].flat()
}

/**
 * Shell command that keeps a tree's tar from stdin and unpacks it meanwhile: it is read once.
 *
 * @param tarFile and @param targetDir shell words
 */
export function keepAndUnpack(tarFile: string, targetDir: string): string {
  // tar stops at the archive's end mark; the padding after it must not find a closed pipe.
  return `tee ${tarFile} | { tar --extract --directory ${targetDir} ${quote(UNPACK_FLAGS)} && cat >/dev/null; }`
}
