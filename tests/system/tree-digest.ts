// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'

/** Digest of all that a tree is: names, content, owners, bits, times, attributes and hard links. */
export function treeDigest(folder: string): string {
  const script = [
    'tar --create --directory "$1" --sort=name --numeric-owner --xattrs --format=pax',
    '--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime . | sha256sum | cut -c -64',
  ].join(' ')
  return execFileSync('bash', ['--norc', '-euo', 'pipefail', '-c', script, 'bash', folder]).toString().trim()
}
