// SPDX-License-Identifier: Apache-2.0
import { isSame, valueOf } from './config-file.ts'
import type { Config } from './config-file.ts'
import { holdsFor, isDefinite } from './exceptions.ts'
import type { Exception } from './exceptions.ts'
import type { Asked } from './fragment.ts'
import { conjuncts, evaluate } from './kconfig-expression.ts'
import type { Definition, Kconfig } from './kconfig.ts'

export interface CheckRequest {
  readonly asked: ReadonlyMap<string, Asked>
  readonly exceptions: readonly Exception[]
  readonly config: Config
  readonly kconfig: Kconfig
  readonly arch: string
  readonly version: string
}

/** Lines that tell every symbol that was not taken and why, and every exception that is wrong. */
export function problemsOf(request: CheckRequest): string[] {
  const { asked, exceptions, config, kconfig, arch, version } = request
  const excused = new Set<Exception>()
  const missing = [...asked.values()].filter(({ name, value }) => !isSame(valueOf(config, name), value))
  const problems = missing.flatMap((row) => {
    const kind = kconfig.definitions.has(row.name) ? 'unmet' : 'unknown'
    const excuse = exceptions.find(
      (exception) =>
        exception.name === row.name && exception.kind === kind && holdsFor(exception, arch, version),
    )
    if (excuse === undefined) return [`${row.place}: ${explain(row, request)}`]
    excused.add(excuse)
    return []
  })
  const stale = exceptions.filter(
    (exception) =>
      asked.has(exception.name) &&
      isDefinite(exception) &&
      holdsFor(exception, arch, version) &&
      !excused.has(exception),
  )
  return [
    ...problems,
    ...stale.map(({ name, place, kind }) =>
      kind === 'unknown'
        ? `${place}: CONFIG_${name}: this kernel knows it, so the exception is stale`
        : `${place}: CONFIG_${name}: is met here, so the exception is stale`,
    ),
  ]
}

/** `CONFIG_X=y: needs PCI, which is n`, or the other reason why a symbol has another value. */
export function explain(row: Asked, { config, kconfig }: CheckRequest): string {
  const lookup = (name: string): string => valueOf(config, name)
  const found = valueOf(config, row.name)
  const head = `CONFIG_${row.name}=${row.value}`
  const definitions = kconfig.definitions.get(row.name)
  if (definitions === undefined) return `${head}: this kernel knows no such symbol`
  if (row.value === 'n' && found !== 'n') {
    const selectors = kconfig.selects
      .filter(
        ({ target, by, condition }) =>
          target === row.name && lookup(by) !== 'n' && evaluate(condition, lookup),
      )
      .map(({ by }) => by)
    if (selectors.length > 0)
      return `${head}: is selected by ${[...new Set(selectors)].slice(0, 4).join(', ')}`
  }
  const reasons = definitions.map((definition) => unmetIn(definition, lookup))
  // Of several definitions the one that is nearest to being met tells most.
  const nearest = reasons.sort((a, b) => a.length - b.length)[0] ?? []
  if (nearest.length > 0) return `${head}: needs ${nearest.join(' and ')}`
  const first = definitions.find(({ prompt }) => prompt !== undefined)
  if (first === undefined)
    return `${head}: has no prompt; it is set by what selects it${selectorsOf(row.name, kconfig)}`
  const chosen = first.choice?.find((name) => name !== row.name && lookup(name) === 'y')
  if (chosen !== undefined) return `${head}: ${chosen} is chosen instead`
  return `${head}: the configuration has ${found}`
}

/** What a definition needs and does not have, with the values of the symbols in it. */
function unmetIn(definition: Definition, lookup: (name: string) => string): string[] {
  const needs = definition.depends.flatMap(conjuncts)
  const visible = definition.prompt === undefined ? [] : conjuncts(definition.prompt)
  return [...new Set([...needs, ...visible])]
    .filter((need) => !evaluate(need, lookup))
    .map((need) => `${need}${valuesIn(need, lookup)}`)
}

function valuesIn(expression: string, lookup: (name: string) => string): string {
  const names = [...new Set(expression.match(/\b[A-Z0-9_]*[A-Z][A-Z0-9_]*\b/g) ?? [])]
  if (names.length === 1) return `, which is ${lookup(String(names[0]))}`
  return names.length === 0 ? '' : ` (${names.map((name) => `${name}=${lookup(name)}`).join(' ')})`
}

function selectorsOf(name: string, kconfig: Kconfig): string {
  const by = [...new Set(kconfig.selects.filter(({ target }) => target === name).map((row) => row.by))]
  return by.length === 0 ? '' : `: ${by.slice(0, 4).join(', ')}`
}
