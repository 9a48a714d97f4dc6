// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'

import type { Json } from '../scripts/digest.ts'
import { sha256 } from '../scripts/digest.ts'
import type { Component } from './inventory.ts'
import type { ListedEntry } from './listing.ts'
import { UNACCOUNTED, nameAndAddress, timeOf, uuidOf } from './sbom-subject.ts'
import type { Description } from './sbom-subject.ts'

type Table = { readonly [key: string]: Json }

const NONE = 'NOASSERTION'
const ROOT = 'SPDXRef-Output'

const PURPOSE_OF_KIND = {
  package: 'LIBRARY',
  program: 'APPLICATION',
  files: 'FILE',
  distro: 'OPERATING_SYSTEM',
  configuration: 'FILE',
} as const

/** An SBOM in SPDX 2.3. Source: https://spdx.github.io/spdx-spec/v2.3/ */
export function spdx({ subject, inventory }: Description): Table {
  const lost: Component[] =
    inventory.unaccounted.length === 0 ? [] : [{ ...UNKNOWN, files: inventory.unaccounted }]
  const components = [...inventory.components, ...lost]
  const files = components.flatMap((item) => item.files)
  const references = new Map(
    components.flatMap(({ licence }) => licence.references.map((item) => [item.id, item] as const)),
  )
  return {
    spdxVersion: 'SPDX-2.3',
    dataLicense: 'CC0-1.0',
    SPDXID: 'SPDXRef-DOCUMENT',
    name: subject.name,
    documentNamespace: `https://spdx.org/spdxdocs/${encodeURIComponent(subject.name)}-${uuidOf(subject)}`,
    creationInfo: {
      created: timeOf(subject.epochSeconds),
      creators: [`Tool: osbuilder-${subject.osbuilder}`],
    },
    packages: [
      {
        SPDXID: ROOT,
        name: subject.name,
        downloadLocation: NONE,
        filesAnalyzed: false,
        checksums: [{ algorithm: 'SHA256', checksumValue: subject.sha256 }],
        primaryPackagePurpose: 'OPERATING_SYSTEM',
        ...commentOf({ kind: subject.kind, ...subject.properties }),
      },
      ...components.map(packageOf),
    ],
    files: files.map(fileOf),
    ...(references.size === 0
      ? {}
      : {
          hasExtractedLicensingInfos: [...references.values()].map(({ id, name, text }) => ({
            licenseId: id,
            name,
            extractedText: text,
          })),
        }),
    relationships: [
      relation('SPDXRef-DOCUMENT', 'DESCRIBES', ROOT),
      ...components.flatMap((item) => [
        relation(ROOT, 'CONTAINS', idOf(item)),
        ...item.files.map((file) => relation(idOf(item), 'CONTAINS', idOfFile(file))),
      ]),
    ],
  }
}

const UNKNOWN: Component = {
  id: 'unaccounted',
  kind: 'files',
  name: UNACCOUNTED,
  version: '',
  description: 'Files that no package, no step and no user of the rootfs is known to have written',
  licence: { expression: undefined, references: [] },
  supplier: '',
  homepage: '',
  purl: '',
  sha256: '',
  properties: {},
  files: [],
}

function relation(from: string, relationshipType: string, to: string): Table {
  return { spdxElementId: from, relationshipType, relatedSpdxElement: to }
}

/** Letters, digits, dots and dashes; what is lost of the name is made up for by its digest. */
function idOf({ id }: Component): string {
  const plain = id.replace(/[^A-Za-z0-9.-]/g, '-')
  return `SPDXRef-${plain === id ? plain : `${plain}-${sha256(id).slice(0, 8)}`}`
}

function idOfFile({ path }: ListedEntry): string {
  return `SPDXRef-File-${sha256(path).slice(0, 24)}`
}

function packageOf(of: Component): Table {
  const isAnalyzed = of.files.length > 0
  return {
    SPDXID: idOf(of),
    name: of.name,
    ...(of.version === '' ? {} : { versionInfo: of.version }),
    ...(of.description === '' ? {} : { summary: of.description }),
    ...supplierOf(of.supplier),
    downloadLocation: NONE,
    ...(/^https?:\/\/\S+$/.test(of.homepage) ? { homepage: of.homepage } : {}),
    filesAnalyzed: isAnalyzed,
    ...(isAnalyzed
      ? { packageVerificationCode: { packageVerificationCodeValue: verificationCode(of.files) } }
      : {}),
    ...(of.sha256 === '' ? {} : { checksums: [{ algorithm: 'SHA256', checksumValue: of.sha256 }] }),
    licenseConcluded: NONE,
    licenseDeclared: of.licence.expression ?? NONE,
    copyrightText: NONE,
    primaryPackagePurpose: PURPOSE_OF_KIND[of.kind],
    ...(of.purl === ''
      ? {}
      : {
          externalRefs: [
            { referenceCategory: 'PACKAGE-MANAGER', referenceType: 'purl', referenceLocator: of.purl },
          ],
        }),
    ...commentOf(of.properties),
  }
}

/** Digest over the files' own. Source: SPDX 2.3, section 7.9 */
function verificationCode(files: readonly ListedEntry[]): string {
  const digests = files.map(({ sha1 }) => sha1).sort()
  return createHash('sha1').update(digests.join('')).digest('hex')
}

function supplierOf(text: string): Table {
  const { name, address } = nameAndAddress(text)
  if (name === '') return {}
  const isGroup =
    /(team|group|maintainers|developers|project|packagers|list|inc\.?|centos|red hat|fedora)/i.test(name)
  return {
    supplier: `${isGroup ? 'Organization' : 'Person'}: ${name}${address === '' ? '' : ` (${address})`}`,
  }
}

function fileOf(file: ListedEntry): Table {
  return {
    SPDXID: idOfFile(file),
    fileName: `./${file.path}`,
    checksums: [
      { algorithm: 'SHA1', checksumValue: file.sha1 },
      { algorithm: 'SHA256', checksumValue: file.sha256 },
    ],
    licenseConcluded: NONE,
    copyrightText: NONE,
  }
}

function commentOf(properties: Readonly<Record<string, string>>): Table {
  const lines = Object.entries(properties).filter(([, value]) => value !== '')
  return lines.length === 0 ? {} : { comment: lines.map(([name, value]) => `${name}: ${value}`).join('\n') }
}
