// SPDX-License-Identifier: Apache-2.0
import type { LockedAgent, LockedGuest, LockedIndex, LockedKernel, LockedPackage } from './package-lock.ts'
import { compareBytes } from '../tree.ts'

/** One difference: what it is of, and what happened to it. */
export interface Change {
  readonly what: string
  readonly how: string
}

/** What is different between two locked guests, in words; packages in byte order of their names. */
export function guestChanges(before: LockedGuest | undefined, after: LockedGuest): Change[] {
  return [
    ...indexChanges(before?.indexes ?? [], after.indexes),
    ...wordChanges('packages asked for', before?.asked ?? [], after.asked),
    ...wordChanges('EXTRA_PKGS', before?.extra ?? [], after.extra),
    ...wordChanges('components', before?.components ?? [], after.components),
    ...wordChanges('REPO_EXTRA', before?.repositories ?? [], after.repositories),
    ...packageChanges(before?.packages ?? [], after.packages),
  ]
}

function indexChanges(before: readonly LockedIndex[], after: readonly LockedIndex[]): Change[] {
  return after.flatMap((index) => {
    const old = before.find(({ name }) => name === index.name)
    const what = `index ${index.name}`
    if (old === undefined) return [{ what, how: `${dayOf(index)}   added` }]
    const [was, is] = dayOf(old) === dayOf(index) ? [old, index].map(digestOf) : [dayOf(old), dayOf(index)]
    const moved = old.sha256 === index.sha256 ? [] : [{ what, how: `${String(was)} → ${String(is)}` }]
    const signers = [...old.signers].sort().join(' ') === [...index.signers].sort().join(' ')
    if (signers) return moved
    return [
      ...moved,
      { what: `${what} signed by`, how: `${old.signers.join(' ')} → ${index.signers.join(' ')}` },
    ]
  })
}

/** The date of an index, else the beginning of its digest. */
function dayOf(index: LockedIndex): string {
  const { dateSeconds } = index
  if (dateSeconds === undefined) return digestOf(index)
  return new Date(dateSeconds * 1000).toISOString().slice(0, 16).replace('T', ' ')
}

function digestOf({ sha256 }: LockedIndex): string {
  return sha256.slice(0, 12)
}

function wordChanges(what: string, before: readonly string[], after: readonly string[]): Change[] {
  const words = [
    ...before.filter((word) => !after.includes(word)).map((word) => `-${word}`),
    ...after.filter((word) => !before.includes(word)).map((word) => `+${word}`),
  ]
  return words.length === 0 || before.length === 0 ? [] : [{ what, how: words.join(' ') }]
}

function packageChanges(before: readonly LockedPackage[], after: readonly LockedPackage[]): Change[] {
  const key = ({ name, arch }: LockedPackage): string => `${name} ${arch === 'all' ? '' : arch}`.trim()
  const old = new Map(before.map((item) => [key(item), item]))
  const now = new Map(after.map((item) => [key(item), item]))
  const keys = [...new Set([...old.keys(), ...now.keys()])].sort(compareBytes)
  return keys.flatMap((one): Change[] => {
    const [was, is] = [old.get(one), now.get(one)]
    const what = is?.name ?? was?.name ?? ''
    if (was === undefined) return [{ what, how: `${is?.version ?? ''}   added` }]
    if (is === undefined) return [{ what, how: `${was.version}   removed` }]
    if (was.version !== is.version) return [{ what, how: `${was.version} → ${is.version}` }]
    if (was.sha256 !== is.sha256) return [{ what, how: `${is.version}   the same version with other bytes` }]
    return []
  })
}

/** What is different between two locked agents, in words. */
export function agentChanges(before: LockedAgent | undefined, after: LockedAgent): Change[] {
  const what = `agent ${after.repo}`
  const now = after.commit.slice(0, 12)
  if (before === undefined) return [{ what, how: `${now}   added` }]
  return before.commit === after.commit ? [] : [{ what, how: `${before.commit.slice(0, 12)} → ${now}` }]
}

/** What is different between the locked sources of two kernels, in words. */
export function kernelChanges(before: LockedKernel | undefined, after: LockedKernel): Change[] {
  if (before === undefined) return [{ what: after.title, how: 'added' }]
  if (JSON.stringify(before.identity) === JSON.stringify(after.identity)) return []
  const isSame = before.title === after.title
  return [{ what: before.title, how: isSame ? 'the same version with other bytes' : `→ ${after.title}` }]
}
