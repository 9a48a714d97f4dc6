// SPDX-License-Identifier: Apache-2.0

/** A JSON schema, as far as two are compared here. */
export interface Rules {
  readonly [keyword: string]: unknown
  readonly type?: string
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly required?: readonly string[]
  readonly properties?: Readonly<Record<string, Rules>>
  readonly additionalProperties?: boolean
  readonly items?: Rules
  readonly minItems?: number
}

/** Keywords of the looser schema that are compared, and those that say nothing about a value. */
const COMPARED = ['type', 'enum', 'required', 'properties', 'additionalProperties', 'items', 'minItems']
const SAYS_NOTHING = ['$schema', '$id', 'title', 'description']

/**
 * Why a value that is valid by `strict` may not be valid by `loose`; nothing when it always is.
 *
 * Every keyword of `loose` must be one that is compared. Those that only `strict` has restrict it further and
 * need no look.
 */
export function doubtsOf(strict: Rules, loose: Rules, path: string = ''): string[] {
  const doubts: string[] = []
  const doubt = (isOne: boolean, said: string): void => {
    if (isOne) doubts.push(`${path || '/'} ${said}`)
  }
  for (const keyword of Object.keys(loose))
    doubt(![...COMPARED, ...SAYS_NOTHING].includes(keyword), `has ${keyword}, which is not compared`)
  const values = 'const' in strict ? [strict.const] : strict.enum
  doubt(
    loose.type !== undefined && !typesOf(strict, values).every((type) => type === loose.type),
    `is not always of type ${loose.type ?? ''}`,
  )
  const allowed = loose.enum
  doubt(
    allowed !== undefined && values?.every((value) => allowed.includes(value)) !== true,
    `may have a value that is none of ${String(allowed)}`,
  )
  for (const name of loose.required ?? [])
    doubt(strict.required?.includes(name) !== true, `may be without ${name}`)
  doubt((strict.minItems ?? 0) < (loose.minItems ?? 0), `may have less than ${String(loose.minItems)} items`)
  const isClosed = loose.additionalProperties === false
  // What may have any name may have one that the other says something about.
  doubt(
    (isClosed || loose.properties !== undefined) && strict.additionalProperties !== false,
    'may have a property of any name',
  )
  for (const [name, rules] of Object.entries(strict.properties ?? {})) {
    const other = loose.properties?.[name]
    if (other !== undefined) doubts.push(...doubtsOf(rules, other, `${path}/${name}`))
    else doubt(isClosed, `may have a property ${name}`)
  }
  if (loose.items !== undefined) doubts.push(...doubtsOf(strict.items ?? {}, loose.items, `${path}/*`))
  return doubts
}

/** JSON types of the values that rules allow; `any` when they name none. */
function typesOf(rules: Rules, values: readonly unknown[] | undefined): readonly string[] {
  if (rules.type !== undefined) return [rules.type]
  if (values === undefined || values.length === 0) return ['any']
  return values.map((value) => (Array.isArray(value) ? 'array' : typeof value))
}
