// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { sha256 } from '../../scripts/digest.ts'
import { doubtsOf } from './implies.ts'
import type { Rules } from './implies.ts'
import { SHOWN_OF, SPDX, spdxChecker } from './schemas.ts'

const ID = 'SPDXRef-Output'

/** A document with one of everything that we write. */
function document(): Record<string, unknown> {
  return {
    spdxVersion: 'SPDX-2.3',
    dataLicense: 'CC0-1.0',
    SPDXID: 'SPDXRef-DOCUMENT',
    name: 'a.img',
    documentNamespace: 'https://spdx.org/spdxdocs/a.img-1',
    creationInfo: { created: '2026-11-18T11:06:40Z', creators: ['Tool: osbuilder-1'] },
    packages: [{ SPDXID: ID, name: 'a.img', downloadLocation: 'NOASSERTION', filesAnalyzed: false }],
    files: [
      {
        SPDXID: 'SPDXRef-File-1',
        fileName: './etc/x',
        checksums: [
          { algorithm: 'SHA1', checksumValue: 'a'.repeat(40) },
          { algorithm: 'SHA256', checksumValue: 'b'.repeat(64) },
        ],
      },
    ],
    relationships: [
      { spdxElementId: 'SPDXRef-DOCUMENT', relationshipType: 'DESCRIBES', relatedSpdxElement: ID },
    ],
  }
}

t.test('the rules of SPDX are those that were shown to imply the published schema', (t) => {
  const digest = sha256(JSON.stringify(SPDX))
  t.equal(digest, SHOWN_OF, 'after a change: SPDX_SPEC=folder make test-long, then write the new digest down')
  t.end()
})

t.test('a document of SPDX that is broken in one place is refused', (t) => {
  const check = spdxChecker()
  t.strictSame(check(document()), [])
  const broken: readonly (readonly [string, RegExp])[] = [
    ['/spdxVersion', /must have required property 'spdxVersion'/],
    ['/dataLicense', /required property 'dataLicense'/],
    ['/SPDXID', /required property 'SPDXID'/],
    ['/name', /required property 'name'/],
    ['/creationInfo', /required property 'creationInfo'/],
    ['/creationInfo/created', /creationInfo must have required property 'created'/],
    ['/creationInfo/creators', /required property 'creators'/],
    ['/packages/0/downloadLocation', /packages\/0 must have required property 'downloadLocation'/],
    ['/packages/0/name', /required property 'name'/],
    ['/files/0/fileName', /required property 'fileName'/],
    ['/files/0/checksums', /required property 'checksums'/],
    ['/files/0/checksums/0', /files\/0\/checksums must contain/],
    ['/relationships/0/relationshipType', /required property 'relationshipType'/],
  ]
  for (const [place, said] of broken) t.match(check(without(document(), place)).join('\n'), said, place)
  const more = document()
  more['colour'] = 'red'
  t.match(check(more)[0], /additional properties/)
  const other = document()
  other['relationships'] = [
    { spdxElementId: 'SPDXRef-DOCUMENT', relationshipType: 'DESCRIBES', relatedSpdxElement: 'SPDXRef-Lost' },
  ]
  t.strictSame(check(other), ['SPDXRef-Lost is named and is not there'])
  t.end()
})

function without(value: Record<string, unknown>, place: string): unknown {
  const names = place.split('/').slice(1)
  const last = names.pop() ?? ''
  const parent = names.reduce<unknown>((at, name) => (at as Record<string, unknown>)[name], value)
  if (Array.isArray(parent)) parent.splice(Number(last), 1)
  else Reflect.deleteProperty(parent as object, last)
  return value
}

t.test('one schema implies another, or it is told where not', (t) => {
  const text = { type: 'string' }
  const loose: Rules = {
    title: 'of a house',
    type: 'object',
    required: ['name'],
    additionalProperties: false,
    properties: {
      name: text,
      kind: { type: 'string', enum: ['A', 'B'] },
      rooms: { type: 'array', minItems: 1, items: text },
    },
  }
  const strict: Rules = {
    ...loose,
    required: ['name', 'kind'],
    properties: {
      name: { const: 'x' },
      kind: { enum: ['A'] },
      rooms: { type: 'array', minItems: 2, items: { ...text, pattern: '^a' } },
    },
  }
  t.strictSame(doubtsOf(strict, loose), [])
  const rows: readonly (readonly [Partial<Rules>, string])[] = [
    [{ required: ['kind'] }, '/ may be without name'],
    [{ additionalProperties: true }, '/ may have a property of any name'],
    [{ type: 'array' }, '/ is not always of type object'],
    [{ properties: { size: text } }, '/ may have a property size'],
    [{ properties: { name: { enum: ['x', 1] } } }, '/name is not always of type string'],
    [{ properties: { name: {} } }, '/name is not always of type string'],
    [{ properties: { kind: { enum: ['A', 'C'] } } }, '/kind may have a value that is none of A,B'],
    [{ properties: { kind: text } }, '/kind may have a value that is none of A,B'],
    [{ properties: { rooms: { type: 'array', items: text } } }, '/rooms may have less than 1 items'],
    [{ properties: { rooms: { type: 'array', minItems: 1 } } }, '/rooms/* is not always of type string'],
  ]
  for (const [change, said] of rows) t.strictSame(doubtsOf({ ...strict, ...change }, loose), [said])
  t.strictSame(doubtsOf(strict, { ...loose, anyOf: [] }), ['/ has anyOf, which is not compared'])
  t.end()
})
