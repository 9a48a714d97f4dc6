// SPDX-License-Identifier: Apache-2.0
import { createRequire } from 'node:module'

import parse from 'spdx-expression-parse'

import { sha256 } from '../scripts/digest.ts'
import { compareBytes } from '../scripts/tree.ts'

/** A licence as SPDX writes it, with what its own references stand for. */
export interface Licence {
  /** An SPDX licence expression; undefined when the package does not tell. */
  readonly expression: string | undefined
  readonly references: readonly LicenceReference[]
}

/** A licence that has no name in SPDX's list. */
export interface LicenceReference {
  /** `LicenseRef-…` */
  readonly id: string
  /** What the package calls it. */
  readonly name: string
  /** Where its text is, and its digest. */
  readonly text: string
}

export const NO_LICENCE: Licence = { expression: undefined, references: [] }

const KNOWN = new Map(
  (createRequire(import.meta.url)('spdx-license-ids') as readonly string[]).map((id) => [
    id.toLowerCase(),
    id,
  ]),
)

/** The name in SPDX's list, in its own spelling. */
export function knownLicence(name: string): string | undefined {
  return KNOWN.get(name.toLowerCase())
}

/** True when the text is an SPDX licence expression. */
export function isExpression(text: string): boolean {
  try {
    parse(text)
    return true
  } catch {
    return false
  }
}

/**
 * A reference for a licence without a name in SPDX's list.
 *
 * @param text the licence's text, of which the reference keeps the digest
 */
export function referenceTo(name: string, text: string, where: string): LicenceReference {
  const word = name.replace(/[^A-Za-z0-9.-]+/g, '-').replace(/^-+|-+$/g, '')
  const digest = sha256(text)
  return {
    id: `LicenseRef-${word === '' ? 'unnamed' : word.slice(0, 60)}-${digest.slice(0, 12)}`,
    name,
    text: `${where}, sha256 ${digest}`,
  }
}

/**
 * The licence of a field that packagers fill by hand: an SPDX expression where it is one, with each
 * word that is none as a reference.
 *
 * @param where names the field, for what the references stand for
 */
export function licenceOfField(field: string, where: string): Licence {
  const text = field.trim()
  if (text === '') return NO_LICENCE
  if (isExpression(text)) return { expression: text, references: [] }
  const parts = text.split(/\s+(?:and|AND)\s+|\s*[,;]\s*/).filter((part) => part !== '')
  const named = parts.map((part) => part.replace(/\s+or\s+/g, ' OR ').replace(/\s+with\s+/g, ' WITH '))
  const references: LicenceReference[] = []
  const words = named.map((part) => {
    if (isExpression(part)) return part
    const reference = referenceTo(part, part, where)
    references.push(reference)
    return reference.id
  })
  return { expression: allOf(words), references }
}

/** `(A OR B) AND C` of what must all be kept to. */
export function allOf(expressions: readonly string[]): string | undefined {
  const distinct = [...new Set(expressions)].sort(compareBytes)
  if (distinct.length < 2) return distinct[0]
  return distinct.map((text) => (/\sOR\s/.test(text) ? `(${text})` : text)).join(' AND ')
}
