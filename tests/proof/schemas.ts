// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { Ajv } from 'ajv'
import addFormats from 'ajv-formats'

import { isExpression } from '../../proof/licence.ts'
import type { Rules } from './implies.ts'
import { PROJECT } from '../system/user.ts'

/** CycloneDX's own schemas, as its library carries them (Apache-2.0). */
const SCHEMAS = join(PROJECT, 'node_modules/@cyclonedx/cyclonedx-library/res/schema')
const BASE = 'http://cyclonedx.org/schema/'

/** Digest of schemas/spdx-schema.json of spdx/spdx-spec, tag v2.3 (commit aadf3b0b8dbb). */
export const SPDX_SCHEMA_SHA256 = '239208b7ac287b3cf5d9a9af23f9d69863971102a5e1587a27a398b43490b89b'

/** Digest of the rules below that were shown to imply it. A test says so when they are changed. */
export const SHOWN_OF = '841d3705167f3f3a4970bff7cfd1077cbe6d74b39bdbc7b89ee0cb832a474808'

type Checker = (value: unknown) => readonly string[]

function schema(name: string): Record<string, unknown> {
  return JSON.parse(readFileSync(join(SCHEMAS, name), 'utf8')) as Record<string, unknown>
}

/** Problems of an SBOM by the published schema of CycloneDX 1.6, one line each. */
export function cyclonedxChecker(): Checker {
  const ajv = new Ajv({ strict: false, allErrors: true, logger: false })
  addFormats.default(ajv)
  for (const name of ['spdx', 'jsf-0.82', 'cryptography-defs'])
    ajv.addSchema(schema(`${name}.SNAPSHOT.schema.json`), `${BASE}${name}.SNAPSHOT.schema.json`)
  const validate = ajv.compile(schema('bom-1.6.SNAPSHOT.schema.json'))
  return (value) =>
    validate(value)
      ? []
      : (validate.errors ?? []).map((error) => `${error.instancePath} ${error.message ?? ''}`)
}

const ID = '^SPDXRef-[A-Za-z0-9.-]+$'
const text = { type: 'string', minLength: 1 }
const checksums = {
  type: 'array',
  minItems: 1,
  items: {
    type: 'object',
    additionalProperties: false,
    required: ['algorithm', 'checksumValue'],
    properties: {
      algorithm: { enum: ['SHA1', 'SHA256'] },
      checksumValue: { type: 'string', pattern: '^[0-9a-f]{40,64}$' },
    },
  },
}

/**
 * The parts of SPDX 2.3 that we write, after its specification: which fields there are, which must be,
 * and what they may hold.
 *
 * No npm package carries the published schema. What these rules allow, it allows: `make test-long` shows it
 * of `SPDX_SCHEMA_SHA256`, whose bytes never change, and of the rules with the digest `SHOWN_OF`.
 * Source: https://spdx.github.io/spdx-spec/v2.3/, sections 6 to 11
 */
export const SPDX: Rules = {
  type: 'object',
  additionalProperties: false,
  required: [
    'spdxVersion',
    'dataLicense',
    'SPDXID',
    'name',
    'documentNamespace',
    'creationInfo',
    'packages',
    'files',
    'relationships',
  ],
  properties: {
    spdxVersion: { const: 'SPDX-2.3' },
    dataLicense: { const: 'CC0-1.0' },
    SPDXID: { const: 'SPDXRef-DOCUMENT' },
    name: text,
    documentNamespace: { type: 'string', format: 'uri', pattern: '^[^#]+$' },
    creationInfo: {
      type: 'object',
      additionalProperties: false,
      required: ['created', 'creators'],
      properties: {
        created: { type: 'string', pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ$' },
        creators: {
          type: 'array',
          minItems: 1,
          items: { type: 'string', pattern: '^(Tool|Person|Organization): .' },
        },
      },
    },
    packages: {
      type: 'array',
      minItems: 1,
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['SPDXID', 'name', 'downloadLocation'],
        properties: {
          SPDXID: { type: 'string', pattern: ID },
          name: text,
          versionInfo: text,
          summary: text,
          supplier: { type: 'string', pattern: '^(Person|Organization): .' },
          downloadLocation: text,
          homepage: { type: 'string', format: 'uri' },
          filesAnalyzed: { type: 'boolean' },
          packageVerificationCode: {
            type: 'object',
            additionalProperties: false,
            required: ['packageVerificationCodeValue'],
            properties: { packageVerificationCodeValue: { type: 'string', pattern: '^[0-9a-f]{40}$' } },
          },
          checksums,
          licenseConcluded: text,
          licenseDeclared: text,
          copyrightText: text,
          primaryPackagePurpose: { enum: ['LIBRARY', 'APPLICATION', 'FILE', 'OPERATING_SYSTEM'] },
          externalRefs: {
            type: 'array',
            items: {
              type: 'object',
              additionalProperties: false,
              required: ['referenceCategory', 'referenceType', 'referenceLocator'],
              properties: {
                referenceCategory: { const: 'PACKAGE-MANAGER' },
                referenceType: { const: 'purl' },
                referenceLocator: { type: 'string', pattern: '^pkg:[a-z]+/[^ ]+$' },
              },
            },
          },
          comment: text,
        },
        // Section 7.9: the code is there exactly when the files were looked at.
        if: { properties: { filesAnalyzed: { const: true } } },
        then: { required: ['packageVerificationCode'] },
        else: { not: { required: ['packageVerificationCode'] } },
      },
    },
    files: {
      type: 'array',
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['SPDXID', 'fileName', 'checksums'],
        properties: {
          SPDXID: { type: 'string', pattern: ID },
          fileName: { type: 'string', pattern: '^\\./.' },
          // Section 8.4: SHA1 is mandatory.
          checksums: { ...checksums, contains: { properties: { algorithm: { const: 'SHA1' } } } },
          licenseConcluded: text,
          copyrightText: text,
        },
      },
    },
    hasExtractedLicensingInfos: {
      type: 'array',
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['licenseId', 'extractedText'],
        properties: {
          licenseId: { type: 'string', pattern: '^LicenseRef-[A-Za-z0-9.-]+$' },
          name: text,
          extractedText: text,
        },
      },
    },
    relationships: {
      type: 'array',
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['spdxElementId', 'relationshipType', 'relatedSpdxElement'],
        properties: {
          spdxElementId: { type: 'string', pattern: ID },
          relationshipType: { enum: ['DESCRIBES', 'CONTAINS'] },
          relatedSpdxElement: { type: 'string', pattern: ID },
        },
      },
    },
  },
}

interface SpdxDocument {
  readonly packages: readonly { readonly SPDXID: string; readonly licenseDeclared?: string }[]
  readonly files: readonly { readonly SPDXID: string }[]
  readonly hasExtractedLicensingInfos?: readonly { readonly licenseId: string }[]
  readonly relationships: readonly { readonly spdxElementId: string; readonly relatedSpdxElement: string }[]
}

/** Problems of an SBOM by the rules of SPDX 2.3, those that no schema tells included. */
export function spdxChecker(): Checker {
  const ajv = new Ajv({ strict: false, allErrors: true, logger: false })
  addFormats.default(ajv)
  const validate = ajv.compile(SPDX)
  return (value) => {
    if (!validate(value))
      return (validate.errors ?? []).map((error) => `${error.instancePath} ${error.message ?? ''}`)
    return spdxReferences(value as unknown as SpdxDocument)
  }
}

function spdxReferences(document: SpdxDocument): string[] {
  const ids = ['SPDXRef-DOCUMENT', ...[...document.packages, ...document.files].map(({ SPDXID }) => SPDXID)]
  const known = new Set(ids)
  const licences = new Set((document.hasExtractedLicensingInfos ?? []).map(({ licenseId }) => licenseId))
  const declared = document.packages.map(({ licenseDeclared = 'NOASSERTION' }) => licenseDeclared)
  return [
    ...(known.size === ids.length ? [] : ['two elements have one SPDXID']),
    ...document.relationships
      .flatMap(({ spdxElementId, relatedSpdxElement }) => [spdxElementId, relatedSpdxElement])
      .filter((id) => !known.has(id))
      .map((id) => `${id} is named and is not there`),
    ...declared
      .filter((text) => text !== 'NOASSERTION' && !isExpression(text))
      .map((text) => `${text}: no expression`),
    ...declared
      .flatMap((text) => text.match(/LicenseRef-[A-Za-z0-9.-]+/g) ?? [])
      .filter((id) => !licences.has(id))
      .map((id) => `${id} is not explained`),
  ]
}
