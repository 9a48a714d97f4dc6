// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync } from 'node:fs'

import { BuildError } from '../errors.ts'

/** How often the console is looked at for the guest's last words. */
const HALT_POLL_MS = 100

/** A promise that fails after a time, unless it is cancelled. */
export function rejectAfter(
  milliseconds: number,
  message: string,
): { promise: Promise<never>; cancel: () => void } {
  let timer: NodeJS.Timeout | undefined
  const promise = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new BuildError('E_BOOT', message))
    }, milliseconds)
  })
  return {
    promise,
    cancel: () => {
      clearTimeout(timer)
    },
  }
}

/** True once the guest says that it stopped: a machine without ACPI cannot switch itself off. */
export async function halted(consoleFile: string, over: AbortSignal): Promise<boolean> {
  while (!over.aborted) {
    if (existsSync(consoleFile) && readFileSync(consoleFile, 'utf8').includes('reboot: System halted'))
      return true
    await sleep(HALT_POLL_MS)
  }
  return false
}

/** Wait without keeping the process. */
export function sleep(milliseconds: number): Promise<void> {
  return new Promise((done) => {
    setTimeout(done, milliseconds).unref()
  })
}
