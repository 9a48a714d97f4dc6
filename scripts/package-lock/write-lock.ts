// SPDX-License-Identifier: Apache-2.0
import { basename } from 'node:path'

import type { Change } from './lock-diff.ts'
import { note, report } from '../log.ts'
import { writeLock } from './package-lock.ts'
import type { Lock } from './package-lock.ts'
import type { Settings } from '../settings.ts'

/** What is new of one part of a lock. */
export interface Update {
  readonly title: string
  /** How much it is, such as `143 packages`. */
  readonly count: string
  /** Asked for by make lock-update, which shows first and writes with WRITE=yes. */
  readonly isUpdate: boolean
  /** The lock has not had it. */
  readonly isNew: boolean
  readonly changes: readonly Change[]
  /** The lock with it. */
  readonly lock: Lock
}

/** A lock names what a mirror has: nobody can be asked without a network. */
export function refuseOffline(settings: Settings): string[] {
  return settings.OFFLINE ? ['OFFLINE=yes: a lock is made of what the mirror has; type OFFLINE=no'] : []
}

/** Settings by which a mirror is asked now, whatever is locked or remembered. */
export function unlocked(settings: Settings): Settings {
  return { ...settings, LOCK_FILE: '/dev/null', REFRESH: 'always' }
}

/** Tell that there is nothing to lock. */
export function tellCovered(title: string, lockFile: string, count: string): void {
  report('LOCK', title, count, `locked already in ${basename(lockFile)}`)
  note('make lock-update shows what is newer')
}

/** Tell the changes, and write the lock where that was asked for. */
export function saveLock(settings: Settings, update: Update): void {
  const { title, count, changes, isUpdate, isNew } = update
  const name = basename(settings.LOCK_FILE)
  if (isUpdate) tellChanges(changes)
  if (isUpdate && !settings.WRITE) {
    const isCurrent = changes.length === 0 && !isNew
    report('LOCK', title, count, isCurrent ? `${name} is up to date` : `${name} is as it was`)
    if (!isCurrent) note('make lock-update WRITE=yes    writes this')
    return
  }
  writeLock(settings.LOCK_FILE, update.lock)
  report('LOCK', title, count, `written to ${name}`)
}

function tellChanges(changes: readonly Change[]): void {
  const width = Math.min(32, Math.max(0, ...changes.map(({ what }) => what.length)))
  for (const { what, how } of changes) report('LOCK', `  ${what.padEnd(width)}`, how)
}
