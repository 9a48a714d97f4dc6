// SPDX-License-Identifier: Apache-2.0
import { isSame } from './config-file.ts'

/** Value of a symbol in a configuration: `y`, `m`, `n`, a number or a text in quotes. */
export type Lookup = (name: string) => string

/** `n`, `m` and `y` in the order that `&&` and `||` compare them. */
type Tristate = 0 | 1 | 2

const TOKEN = /\s*(&&|\|\||!=|<=|>=|[!()=<>]|"(?:[^"\\]|\\.)*"|'[^']*'|[\w./-]+)/y

/**
 * Evaluate an expression of Kconfig. Macros, such as tests of the compiler, count as `y`: what they
 * said is in the symbols they set.
 *
 * Source: Documentation/kbuild/kconfig-language.rst of the kernel.
 */
export function evaluate(expression: string, lookup: Lookup): boolean {
  const tokens = tokensOf(expression)
  let position = 0
  const next = (): string => tokens[position++] ?? ''
  const or = (): Tristate => {
    let value = and()
    while (tokens[position] === '||') {
      next()
      value = Math.max(value, and()) as Tristate
    }
    return value
  }
  const and = (): Tristate => {
    let value = not()
    while (tokens[position] === '&&') {
      next()
      value = Math.min(value, not()) as Tristate
    }
    return value
  }
  const not = (): Tristate => {
    if (tokens[position] === '!') {
      next()
      return (2 - not()) as Tristate
    }
    if (tokens[position] === '(') {
      next()
      const value = or()
      next()
      return value
    }
    return comparison()
  }
  const comparison = (): Tristate => {
    const left = text(next(), lookup)
    const operator = tokens[position] ?? ''
    if (!['=', '!=', '<', '<=', '>', '>='].includes(operator)) return tristate(left)
    next()
    return compare(left, operator, text(next(), lookup)) ? 2 : 0
  }
  return or() > 0
}

/** The parts of an expression that must all hold: it is split at `&&` outside of parentheses. */
export function conjuncts(expression: string): string[] {
  const parts: string[][] = [[]]
  let depth = 0
  for (const token of tokensOf(expression)) {
    depth += token === '(' ? 1 : token === ')' ? -1 : 0
    if (token === '&&' && depth === 0) parts.push([])
    else parts.at(-1)?.push(token)
  }
  return parts.map(joined).filter((text) => text !== '' && text !== 'y')
}

function joined(tokens: readonly string[]): string {
  return tokens.join(' ').replaceAll('! ', '!').replaceAll('( ', '(').replaceAll(' )', ')')
}

function tokensOf(expression: string): string[] {
  const plain = withoutMacros(expression)
  const tokens: string[] = []
  TOKEN.lastIndex = 0
  for (let match = TOKEN.exec(plain); match !== null; match = TOKEN.exec(plain)) tokens.push(String(match[1]))
  return tokens
}

/** Replace `$(…)`, which may nest, by `y`. */
function withoutMacros(expression: string): string {
  let plain = ''
  let depth = 0
  for (let index = 0; index < expression.length; index += 1) {
    if (expression.startsWith('$(', index)) {
      depth += 1
      index += 1
    } else if (depth > 0) {
      if (expression[index] === '(') depth += 1
      if (expression[index] === ')' && (depth -= 1) === 0) plain += 'y'
    } else plain += expression[index] ?? ''
  }
  return plain
}

function text(token: string, lookup: Lookup): string {
  if (/^["']/.test(token)) return token.slice(1, -1)
  if (['y', 'm', 'n'].includes(token) || /^(0x[0-9a-f]+|-?\d+)$/i.test(token)) return token
  return lookup(token).replace(/^"(.*)"$/, '$1')
}

function tristate(value: string): Tristate {
  return value === 'y' ? 2 : value === 'm' ? 1 : 0
}

function compare(left: string, operator: string, right: string): boolean {
  if (operator === '=') return isSame(left, right)
  if (operator === '!=') return !isSame(left, right)
  const difference = Number(left) - Number(right)
  if (operator === '<') return difference < 0
  if (operator === '<=') return difference <= 0
  return operator === '>' ? difference > 0 : difference >= 0
}
