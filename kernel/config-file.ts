// SPDX-License-Identifier: Apache-2.0

/** Symbols of a kernel configuration by name without `CONFIG_`; what is not set is not in it. */
export type Config = ReadonlyMap<string, string>

const SET = /^CONFIG_(\w+)=(.*)$/

/** Read a `.config`, or a `config-<version>` beside a kernel. */
export function parseConfig(text: string): Config {
  const config = new Map<string, string>()
  for (const line of text.split('\n')) {
    const match = SET.exec(line)
    if (match !== null && match[2] !== 'n') config.set(String(match[1]), String(match[2]))
  }
  return config
}

/** `y`, `m`, a number or a text; `n` for what is not set. */
export function valueOf(config: Config, name: string): string {
  return config.get(name) ?? 'n'
}

/** True when two values mean the same: numbers are compared as numbers. */
export function isSame(a: string, b: string): boolean {
  if (a === b) return true
  const isNumber = /^(0x[0-9a-f]+|\d+)$/i
  return isNumber.test(a) && isNumber.test(b) && BigInt(a) === BigInt(b)
}

export interface Difference {
  readonly name: string
  readonly before: string
  readonly after: string
}

/** Symbols that two configurations set differently, by name. Order, comments and spelling do not count. */
export function differences(before: Config, after: Config): Difference[] {
  const names = [...new Set([...before.keys(), ...after.keys()])].sort()
  return names
    .map((name) => ({ name, before: valueOf(before, name), after: valueOf(after, name) }))
    .filter((row) => !isSame(row.before, row.after))
}

/** One line of a fragment: `CONFIG_X=y`, or the comment that leaves it out. */
export function assignment(name: string, value: string): string {
  return value === 'n' ? `# CONFIG_${name} is not set` : `CONFIG_${name}=${value}`
}
