// SPDX-License-Identifier: Apache-2.0

/** Wall times of one way to do one case, by round. Unit: s. */
export type Times = readonly number[]

export interface CaseResult {
  readonly ours: Times
  /** Others doing the same work, by name; those that are not installed are absent. */
  readonly others: Readonly<Record<string, Times>>
}

/** One run of the bench, a line of the history. */
export interface Run {
  readonly date: string
  /** Short hash of the commit, with a plus when the sources differ from it. */
  readonly commit: string
  /** Load of the machine in the last minute, when the run began and when it ended. */
  readonly load: readonly [number, number]
  readonly cases: Readonly<Record<string, CaseResult>>
}

/** The middle one; of an even number the mean of the middle two. */
export function median(values: Times): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const above = sorted[middle] ?? NaN
  return sorted.length % 2 === 1 ? above : (above + (sorted[middle - 1] ?? NaN)) / 2
}

const round2 = (value: number): string => value.toFixed(2)

/** A line of the table: median, spread, and how many times as long as ours it takes. */
export function row(name: string, values: Times, ours?: Times): string {
  const spread = `${round2(Math.min(...values))}..${round2(Math.max(...values))}`
  const ratio = ours === undefined ? '' : `${(median(values) / median(ours)).toFixed(1)} x`
  return `  ${name.padEnd(44)} ${round2(median(values)).padStart(7)} s  ${spread.padEnd(14)} ${ratio}`.trimEnd()
}

/** The table's line of another one that is not there. */
export function absentRow(name: string): string {
  return `  ${name.padEnd(44)} not installed`
}

/** The runs of a history file; lines of another form are left out. */
export function readHistory(text: string): Run[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Partial<Run>)
    .filter((run): run is Run => typeof run.cases === 'object' && typeof run.commit === 'string')
}

/**
 * What this run tells of the commit before it: a line for every case that became slower or faster by more
 * than the spread, that is, whose quickest round is slower than the slowest one then, or the other way round.
 */
export function compareRuns(now: Run, history: readonly Run[]): string[] {
  return Object.entries(now.cases).flatMap(([name, { ours }]) => {
    const before = history.findLast(({ commit, cases }) => commit !== now.commit && cases[name] !== undefined)
    const then = before?.cases[name]?.ours
    if (before === undefined || then === undefined) return []
    const isSlower = Math.min(...ours) > Math.max(...then)
    const isFaster = Math.max(...ours) < Math.min(...then)
    if (!isSlower && !isFaster) return []
    const [a, b] = [then, ours].map((times) => `${round2(median(times))} s`) as [string, string]
    const loads = `load ${String(before.load[0])} then, ${String(now.load[0])} now`
    return [`${isSlower ? 'SLOWER' : 'faster'} than ${before.commit}: ${name}: ${a} -> ${b} (${loads})`]
  })
}
