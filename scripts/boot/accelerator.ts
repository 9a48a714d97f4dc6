// SPDX-License-Identifier: Apache-2.0
import { accessSync, constants, readFileSync } from 'node:fs'

import type { ArchName } from '../arch.ts'
import { hostArch } from '../settings.ts'

/** How QEMU runs the guest's instructions. */
export type Accelerator = 'kvm' | 'tcg'

/**
 * KVM where this machine can use it for the guest, else TCG.
 *
 * The device alone proves nothing: a virtual machine may have it without the processor's support, and
 * a guest then hangs in its firmware.
 */
export function chooseAccelerator(arch: ArchName): Accelerator {
  if (arch !== hostArch()) return 'tcg'
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK)
  } catch {
    // No device, or not for this user: TCG needs neither.
    return 'tcg'
  }
  if (arch !== 'x86_64') return 'kvm'
  return /^flags\s*:.*\b(vmx|svm)\b/m.test(readFileSync('/proc/cpuinfo', 'utf8')) ? 'kvm' : 'tcg'
}
