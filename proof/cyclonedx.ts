// SPDX-License-Identifier: Apache-2.0
import type { Json } from '../scripts/digest.ts'
import type { Component } from './inventory.ts'
import type { ListedEntry } from './listing.ts'
import { UNACCOUNTED, nameAndAddress, timeOf, uuidOf } from './sbom-subject.ts'
import type { Description, Subject } from './sbom-subject.ts'

type Table = { readonly [key: string]: Json }

const TYPE_OF_KIND = {
  package: 'library',
  program: 'application',
  files: 'data',
  distro: 'operating-system',
  configuration: 'data',
} as const

/**
 * An SBOM in CycloneDX 1.6. Source: https://cyclonedx.org/docs/1.6/json/
 *
 * Files are components below the one they belong to. What is complete is said so; with files that belong
 * to nothing it says the contrary, and lists them.
 */
export function cyclonedx({ subject, inventory }: Description): Table {
  const { components, unaccounted } = inventory
  const root = `${subject.kind}:${subject.name}`
  const lost =
    unaccounted.length === 0
      ? []
      : [{ type: 'data', 'bom-ref': 'unaccounted', name: UNACCOUNTED, components: unaccounted.map(fileOf) }]
  return {
    $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    serialNumber: `urn:uuid:${uuidOf(subject)}`,
    version: 1,
    metadata: {
      timestamp: timeOf(subject.epochSeconds),
      lifecycles: [{ phase: 'build' }],
      tools: { components: [{ type: 'application', name: 'osbuilder', version: subject.osbuilder }] },
      component: rootOf(subject, root),
    },
    components: [...components.map(componentOf), ...lost],
    dependencies: [{ ref: root, dependsOn: components.map(({ id }) => id) }],
    compositions: [
      {
        aggregate: unaccounted.length === 0 ? 'complete' : 'incomplete',
        assemblies: [root, ...components.map(({ id }) => id)],
      },
    ],
  }
}

function rootOf(subject: Subject, ref: string): Table {
  return {
    type: subject.kind === 'kernel' ? 'operating-system' : 'firmware',
    'bom-ref': ref,
    name: subject.name,
    hashes: [{ alg: 'SHA-256', content: subject.sha256 }],
    properties: propertiesOf({ kind: subject.kind, ...subject.properties }),
  }
}

function componentOf(of: Component): Table {
  const { name: supplier, address } = nameAndAddress(of.supplier)
  return {
    type: TYPE_OF_KIND[of.kind],
    'bom-ref': of.id,
    ...(supplier === ''
      ? {}
      : { supplier: { name: supplier, ...(address === '' ? {} : { contact: [{ email: address }] }) } }),
    name: of.name,
    ...(of.version === '' ? {} : { version: of.version }),
    ...(of.description === '' ? {} : { description: of.description }),
    ...(of.sha256 === '' ? {} : { hashes: [{ alg: 'SHA-256', content: of.sha256 }] }),
    ...(of.licence.expression === undefined ? {} : { licenses: [{ expression: of.licence.expression }] }),
    ...(of.purl === '' ? {} : { purl: of.purl }),
    ...(/^https?:\/\/\S+$/.test(of.homepage)
      ? { externalReferences: [{ type: 'website', url: of.homepage }] }
      : {}),
    ...(of.files.length === 0 ? {} : { components: of.files.map(fileOf) }),
    ...(Object.keys(of.properties).length + of.licence.references.length === 0
      ? {}
      : {
          properties: propertiesOf({
            ...of.properties,
            ...Object.fromEntries(of.licence.references.map(({ id, text }) => [`licence:${id}`, text])),
          }),
        }),
  }
}

function fileOf({ path, sha256 }: ListedEntry): Table {
  return { type: 'file', name: `/${path}`, hashes: [{ alg: 'SHA-256', content: sha256 }] }
}

function propertiesOf(properties: Readonly<Record<string, string>>): Table[] {
  return Object.entries(properties)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => ({ name: `osbuilder:${name}`, value }))
}
