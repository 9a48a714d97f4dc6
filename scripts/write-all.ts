// SPDX-License-Identifier: Apache-2.0
import { writeSync } from 'node:fs'

/**
 * Write all of it to an open file. On a disk that is nearly full the system may write a part and call that
 * a success; the rest then tells the error. Source: write(2)
 *
 * @param positionBytes where; else where the last write ended
 */
export function writeAll(descriptor: number, bytes: Uint8Array, positionBytes?: number): void {
  for (let done = 0; done < bytes.length;) {
    const at = positionBytes === undefined ? null : positionBytes + done
    done += writeSync(descriptor, bytes, done, bytes.length - done, at)
  }
}
