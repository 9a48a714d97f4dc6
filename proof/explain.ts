// SPDX-License-Identifier: Apache-2.0
import type { ListedEntry } from './listing.ts'

/** One thing that differs between two builds, in words. */
export interface Difference {
  /** Guest path; `''` for the root, or for the archive as a whole. */
  readonly path: string
  /** What of it differs: `content`, `owner`, `mode`, `time`, … */
  readonly field: string
  /** What the first and the second build have. */
  readonly first: string
  readonly second: string
  /** The likely cause. */
  readonly cause: string
}

/** What the two builds were told and found around them, to look for in what differs. */
export interface Surroundings {
  /** Paths of the builds: WORKDIR, HOME, the project's folder. */
  readonly firstPaths: readonly string[]
  readonly secondPaths: readonly string[]
  /** When the builds began and ended. Unit: seconds since 1970. */
  readonly firstSpan: readonly [number, number]
  readonly secondSpan: readonly [number, number]
}

/** How to read a file of each build; undefined when it has none. */
export type ReadBoth = (path: string) => readonly [Buffer | undefined, Buffer | undefined]

/** Half an hour: time zones differ by multiples of it, but for Nepal's and two others' quarter. Unit: s. */
const ZONE_STEP = 900
const LARGEST_ZONE = 26 * 3600

/** Compare two trees and tell every difference with its likely cause, in the order of the first. */
export function explainTrees(
  first: readonly ListedEntry[],
  second: readonly ListedEntry[],
  around: Surroundings,
  read: ReadBoth,
): Difference[] {
  const other = new Map(second.map((entry) => [entry.path, entry]))
  const own = new Set(first.map(({ path }) => path))
  const differences = first.flatMap((entry) => {
    const match = other.get(entry.path)
    if (match === undefined) return [presence(entry, 'first')]
    return explainEntry(entry, match, around, read)
  })
  const extra = second.filter(({ path }) => !own.has(path)).map((entry) => presence(entry, 'second'))
  return withoutConsequences([...differences, ...extra, ...orderOf(first, second)])
}

/** What is made or removed in a folder changes the folder's time: the first says it all. */
function withoutConsequences(differences: readonly Difference[]): Difference[] {
  const changed = new Set(
    differences
      .filter(({ field }) => field === 'presence')
      .map(({ path }) => path.split('/').slice(0, -1).join('/')),
  )
  return differences.filter(({ path, field }) => field !== 'time' || !changed.has(path))
}

function presence(entry: ListedEntry, where: 'first' | 'second'): Difference {
  const is = `a ${entry.type}`
  const isRandom = /[0-9a-f]{8,}|\.[A-Za-z0-9]{6,}$|\d{5,}/.test(entry.path.split('/').at(-1) ?? '')
  return {
    path: entry.path,
    field: 'presence',
    first: where === 'first' ? is : 'not there',
    second: where === 'second' ? is : 'not there',
    cause: isRandom
      ? 'its name has a part that looks random or counted: a temporary name, a process id or a time'
      : where === 'first'
        ? 'it was added after the build, or made from something that the second build did not find'
        : 'it was removed after the build, or made from something that only the second build found',
  }
}

function explainEntry(a: ListedEntry, b: ListedEntry, around: Surroundings, read: ReadBoth): Difference[] {
  const found: Difference[] = []
  const differ = (field: string, first: string, second: string, cause: string): void => {
    if (first !== second) found.push({ path: a.path, field, first, second, cause })
  }
  if (a.type !== b.type) {
    return [
      {
        path: a.path,
        field: 'type',
        first: a.type,
        second: b.type,
        cause: 'something else was made in its place',
      },
    ]
  }
  differ('mode', octal(a.mode), octal(b.mode), causeOfMode(a.mode, b.mode))
  differ(
    'owner',
    `${String(a.uid)}:${String(a.gid)}`,
    `${String(b.uid)}:${String(b.gid)}`,
    'it belongs to whoever built it: the owner was taken from the machine, and not set',
  )
  differ('link target', a.linkTarget, b.linkTarget, causeOfText(a.linkTarget, b.linkTarget, around))
  differ('device', a.device, b.device, 'the numbers of a device of the machine that built it')
  differ('hard link', a.linkedWith, b.linkedWith, 'one build copied what the other linked')
  differ('xattr', a.xattrs.join(' '), b.xattrs.join(' '), causeOfXattr(a.xattrs, b.xattrs))
  if (a.sha256 !== b.sha256) found.push(explainContent(a.path, read, around))
  differ(
    'time',
    iso(a.mtimeSeconds),
    iso(b.mtimeSeconds),
    causeOfTime(a.mtimeSeconds, b.mtimeSeconds, around),
  )
  return found
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, '0')
}

function iso(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace('.000Z', 'Z')
}

function causeOfMode(a: number, b: number): string {
  const changed = a ^ b
  // A umask takes bits away from group and others, and never adds any.
  const isUmask = (changed & ~0o077) === 0 && ((a & b) === a || (a & b) === b)
  return isUmask
    ? 'the umask of who built it'
    : 'its permissions were set by something that is not part of the inputs'
}

function causeOfXattr(a: readonly string[], b: readonly string[]): string {
  const text = [...a, ...b].join(' ')
  if (text.includes('security.selinux')) return 'the SELinux labels of the machine that built it'
  if (text.includes('security.capability')) return 'capabilities that one of the builds could not set'
  return 'an attribute that the filesystem or the machine of the build gave it'
}

function isWithin(seconds: number, [from, to]: readonly [number, number]): boolean {
  return seconds >= from - 1 && seconds <= to + 1
}

function causeOfTime(a: number, b: number, around: Surroundings): string {
  if (isWithin(a, around.firstSpan) || isWithin(b, around.secondSpan))
    return 'the clock of the machine: it was written during the build, and its time was not set to SOURCE_DATE_EPOCH'
  const apart = Math.abs(a - b)
  if (apart > 0 && apart % ZONE_STEP === 0 && apart <= LARGEST_ZONE) return 'the time zone of who built it'
  return 'the time of the file it was copied from, which is not part of the inputs'
}

/** Why two texts differ, by what they name. */
function causeOfText(a: string, b: string, around: Surroundings): string {
  const isNamed = (text: string, paths: readonly string[]): boolean =>
    paths.some((path) => path.length > 1 && text.includes(path))
  const reasons: string[] = []
  if (isNamed(a, around.firstPaths) || isNamed(b, around.secondPaths))
    reasons.push('it names a folder of the build (working directory or HOME)')
  const times = (text: string): number[] =>
    [...text.matchAll(/\b1[0-9]{9}\b/g)].map((match) => Number(match[0]))
  const dates = /\b(?:20\d\d-\d\d-\d\d|\d\d:\d\d:\d\d|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]* +[^\n\0]{0,20})/
  if (
    times(a).some((time) => isWithin(time, around.firstSpan)) ||
    times(b).some((time) => isWithin(time, around.secondSpan))
  )
    reasons.push('it holds the time of the build')
  else if (reasons.length === 0 && isOther(a, b, dates))
    reasons.push('it holds a date: the clock or the time zone of the build')
  if (reasons.length > 0) return reasons.join(', and ')
  const uuid = /[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}/i
  if (isOther(a, b, uuid)) return 'it holds a UUID or another random number'
  const sorted = (text: string): string =>
    text
      .split(/[\n ,:]+/)
      .sort()
      .join('\n')
  if (a !== b && sorted(a) === sorted(b))
    return 'the same words in another order: that of a folder on disk, of a hash table, or of jobs that run at once'
  return ''
}

/** True when both have what matches, and not the same. */
function isOther(a: string, b: string, pattern: RegExp): boolean {
  const all = new RegExp(pattern.source, `${pattern.flags}g`)
  const [one, other] = [a, b].map((text) => [...text.matchAll(all)].map(([match]) => match))
  return (
    one !== undefined &&
    other !== undefined &&
    one.length > 0 &&
    other.length > 0 &&
    one.join() !== other.join()
  )
}

/** How much around the first differing byte is looked at. Unit: bytes. */
const BEFORE = 128
const AFTER = 256

/**
 * Tell how the content of a file differs, and the likely cause.
 *
 * @param place offset to look at instead of the first byte that differs
 */
export function explainContent(
  path: string,
  read: ReadBoth,
  around: Surroundings,
  place?: number,
): Difference {
  const [a, b] = read(path)
  if (a === undefined || b === undefined) {
    return {
      path,
      field: 'content',
      first: 'differs',
      second: 'differs',
      cause: 'it could not be read again',
    }
  }
  const at = place ?? firstDifference(a, b)
  const part = (bytes: Buffer): string =>
    bytes.subarray(Math.max(0, at - BEFORE), at + AFTER).toString('latin1')
  return {
    path,
    field: `content at offset ${String(at)}`,
    first: shownAt(a, at),
    second: shownAt(b, at),
    cause:
      causeOfBytes(a, b, at, around) || causeOfText(part(a), part(b), around) || causeOfWhole(a, b, around),
  }
}

/** A few bytes of a file, as text. */
export function shownAt(bytes: Buffer, at: number): string {
  const text = bytes
    .subarray(Math.max(0, at - 8), at + 32)
    .toString('latin1')
    .replace(/[^\x20-\x7e]/g, '.')
  return `${String(bytes.length)} bytes, at ${String(at)}: "${text}"`
}

/** Offset of the first byte that differs; the shorter length when one begins with the other. */
export function firstDifference(a: Buffer, b: Buffer): number {
  const shorter = Math.min(a.length, b.length)
  const CHUNK = 65536
  for (let at = 0; at < shorter; at += CHUNK) {
    const end = Math.min(shorter, at + CHUNK)
    if (a.subarray(at, end).equals(b.subarray(at, end))) continue
    for (let index = at; index < end; index += 1) if (a[index] !== b[index]) return index
  }
  return shorter
}

/** Formats that hold a time of their own at a known place. */
function causeOfBytes(a: Buffer, b: Buffer, at: number, around: Surroundings): string {
  const head = a.subarray(0, 4).toString('hex')
  if (head.startsWith('1f8b') && at >= 4 && at < 8)
    return 'the time in the header of a gzip file: gzip -n leaves it out'
  if (a.subarray(0, 7).toString('latin1') === '!<arch>' && at < 76)
    return 'the time of a member of an ar archive: ar D leaves it out'
  if (a.length >= at + 4 && b.length >= at + 4) {
    for (let start = Math.max(0, at - 3); start <= at; start += 1) {
      for (const read of ['readUInt32LE', 'readUInt32BE'] as const) {
        if (start + 4 > a.length || start + 4 > b.length) continue
        if (isWithin(a[read](start), around.firstSpan) && isWithin(b[read](start), around.secondSpan))
          return 'it holds the time of the build, as a number'
      }
    }
  }
  return ''
}

function causeOfWhole(a: Buffer, b: Buffer, around: Surroundings): string {
  const whole = causeOfText(a.toString('latin1'), b.toString('latin1'), around)
  if (whole !== '') return whole
  return a.length === b.length
    ? 'something that is not part of the inputs: a random number, the number of processors, or memory that was not cleared'
    : 'it was made from something that is not part of the inputs, or changed after the build'
}

/** The order of the entries, where both have the same ones: that of an archive is part of its bytes. */
function orderOf(first: readonly ListedEntry[], second: readonly ListedEntry[]): Difference[] {
  const there = new Set(second.map(({ path }) => path))
  const own = new Set(first.map(({ path }) => path))
  const a = first.map(({ path }) => path).filter((path) => there.has(path))
  const b = second.map(({ path }) => path).filter((path) => own.has(path))
  const at = a.findIndex((path, index) => path !== b[index])
  if (at < 0) return []
  return [
    {
      path: a[at] ?? '',
      field: 'order',
      first: `entry ${String(at)} is /${a[at] ?? ''}`,
      second: `entry ${String(at)} is /${b[at] ?? ''}`,
      cause: 'the order of the names in a folder on disk, or of the locale',
    },
  ]
}
