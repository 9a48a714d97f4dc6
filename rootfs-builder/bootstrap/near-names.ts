// SPDX-License-Identifier: Apache-2.0

/** Most names that an error suggests. */
const NEAR_NAMES = 5

/** Names of packages that a misspelt one may stand for, the nearest first. */
export function nearNames(name: string, all: Iterable<string>): string[] {
  return [...new Set(all)]
    .map((other) => ({
      other,
      distance: other.startsWith(name) || name.startsWith(other) ? 1 : editDistance(name, other),
    }))
    .filter(({ distance }) => distance <= Math.max(1, Math.floor(name.length / 3)))
    .sort((a, b) => a.distance - b.distance || (a.other < b.other ? -1 : 1))
    .slice(0, NEAR_NAMES)
    .map(({ other }) => other)
}

/** Number of letters to add, drop or change. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1]
    for (let j = 0; j < b.length; j += 1) {
      const change = (row[j] ?? 0) + (letter === b[j] ? 0 : 1)
      next.push(Math.min(change, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    }
    row = next
  }
  return row.at(-1) ?? 0
}
