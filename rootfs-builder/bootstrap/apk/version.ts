// SPDX-License-Identifier: Apache-2.0

/**
 * Versions of Alpine's packages: `1.2.3a_rc1_p2~hash-r4`. Source: apk-version(8).
 */

/** Kinds of parts, in the order in which a shorter version that lacks them compares. */
const KINDS = [
  'first',
  'number',
  'letter',
  'suffix',
  'suffix-number',
  'hash',
  'revision',
  'end',
  'other',
] as const

type Kind = (typeof KINDS)[number]

interface Part {
  readonly kind: Kind
  readonly text: string
}

/** Suffixes from the earliest to the latest; the first four come before a release without suffix. */
const SUFFIXES = ['alpha', 'beta', 'pre', 'rc', '', 'cvs', 'svn', 'git', 'hg', 'p']

const NO_SUFFIX = SUFFIXES.indexOf('')

const GRAMMAR =
  /^(\d+)((?:\.\d+)*)([a-z]?)((?:_(?:alpha|beta|pre|rc|cvs|svn|git|hg|p)(?![a-z])\d*)*)((?:~[0-9a-f]+)?)((?:-r\d+)?)/

const parsed = new Map<string, readonly Part[]>()

/** The parts of a version; the last is `end`, or `other` where something follows that is no part of one. */
function partsOf(version: string): readonly Part[] {
  const known = parsed.get(version)
  if (known !== undefined) return known
  const parts = parse(version)
  parsed.set(version, parts)
  return parts
}

function parse(version: string): readonly Part[] {
  const match = GRAMMAR.exec(version)
  if (match === null) return [{ kind: 'other', text: '' }]
  const [whole, first = '', numbers = '', letter = '', suffixes = '', hash = '', revision = ''] = match
  const parts: Part[] = [{ kind: 'first', text: first }]
  for (const text of numbers.split('.').slice(1)) parts.push({ kind: 'number', text })
  if (letter !== '') parts.push({ kind: 'letter', text: letter })
  for (const suffix of suffixes.split('_').slice(1)) {
    const [, text = '', number = ''] = /^([a-z]+)(\d*)$/.exec(suffix) ?? []
    parts.push({ kind: 'suffix', text })
    if (number !== '') parts.push({ kind: 'suffix-number', text: number })
  }
  if (hash !== '') parts.push({ kind: 'hash', text: hash.slice(1) })
  if (revision !== '') parts.push({ kind: 'revision', text: revision.slice(2) })
  return [...parts, { kind: whole === version ? 'end' : 'other', text: '' }]
}

/** True for a version that apk accepts. */
export function isVersion(text: string): boolean {
  return partsOf(text).at(-1)?.kind === 'end'
}

/**
 * Order of two versions: negative when `a` is older. Of what is no version, the parts before decide.
 *
 * @param isFuzzy take `a` for equal when it begins with all parts of `b`
 */
export function compareVersions(a: string, b: string, isFuzzy: boolean = false): number {
  const [left, right] = [partsOf(a), partsOf(b)]
  for (let at = 0; ; at += 1) {
    const [x, y] = [left[at], right[at]]
    if (x === undefined || y === undefined) return 0
    if (x.kind !== y.kind) return compareKinds(x, y, isFuzzy)
    const order = compareParts(x, y)
    if (order !== 0) return order
  }
}

function compareParts(x: Part, y: Part): number {
  switch (x.kind) {
    case 'first':
    case 'suffix-number':
    case 'revision':
      return compareNumbers(x.text, y.text)
    case 'number':
      // With a leading zero it is a decimal fraction: 1.02 comes before 1.1.
      return x.text.startsWith('0') || y.text.startsWith('0')
        ? compareTexts(x.text, y.text)
        : compareNumbers(x.text, y.text)
    case 'suffix':
      return SUFFIXES.indexOf(x.text) - SUFFIXES.indexOf(y.text)
    case 'letter':
    case 'hash':
    case 'end':
    case 'other':
      return compareTexts(x.text, y.text)
  }
}

/** One version ends, or goes on otherwise: more is newer, except what comes before a release. */
function compareKinds(x: Part, y: Part, isFuzzy: boolean): number {
  if (isFuzzy && y.kind === 'end') return 0
  if (x.kind === 'suffix' && SUFFIXES.indexOf(x.text) < NO_SUFFIX) return -1
  if (y.kind === 'suffix' && SUFFIXES.indexOf(y.text) < NO_SUFFIX) return 1
  return KINDS.indexOf(y.kind) - KINDS.indexOf(x.kind)
}

function compareNumbers(a: string, b: string): number {
  const [x, y] = [a.replace(/^0+(?=\d)/, ''), b.replace(/^0+(?=\d)/, '')]
  return x.length === y.length ? compareTexts(x, y) : x.length - y.length
}

function compareTexts(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** Operators of a dependency: any mix of `<`, `>`, `=` and `~`, the last for "begins with". */
export type Operator = '<' | '<=' | '=' | '>=' | '>' | '~' | '<~' | '>~' | '~=' | '=~'

/** True when `version` is as `operator` and `wanted` ask. */
export function satisfies(version: string, operator: Operator, wanted: string): boolean {
  const isFuzzy = operator.includes('~')
  const order = compareVersions(version, wanted, isFuzzy)
  if (order < 0) return operator.includes('<')
  if (order > 0) return operator.includes('>')
  return operator.includes('=') || isFuzzy
}
