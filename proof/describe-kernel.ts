// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import type { Json } from '../scripts/digest.ts'
import { projectVersion } from '../scripts/workspace.ts'
import { PROJECT_ROOT } from '../scripts/paths.ts'
import { fileEntry } from '../scripts/additions.ts'
import { component } from './inventory.ts'
import { listContent } from './listing.ts'
import type { ListedEntry } from './listing.ts'
import { tableOf, textOf } from './outputs.ts'
import type { Output } from './outputs.ts'
import type { Description } from './sbom-subject.ts'

/** Describe a kernel: its sources, patches, configuration and compiler, and the files made of them. */
export function describeKernel({ path, manifest }: Output): Description {
  const { inputs, result } = manifest
  const clock = Number(inputs['epochSeconds'] ?? 0)
  const identity = tableOf(inputs['source'])
  const names = Array.isArray(result['files']) ? result['files'].map((name: Json) => textOf(name)) : []
  const files = names
    .filter((name) => !name.startsWith('modules-'))
    .map((name) => listFile(dirname(path), name))
  const config = files.filter((file) => file.path.startsWith('config-'))
  const patches = Array.isArray(inputs['patches']) ? inputs['patches'].map((item: Json) => tableOf(item)) : []
  const release = textOf(result['release'])
  return {
    indexes: [],
    inventory: {
      unaccounted: [],
      components: [
        component({
          id: 'linux',
          kind: 'program',
          name: 'linux',
          version: release,
          description: textOf(inputs['title']),
          licence: { expression: 'GPL-2.0-only WITH Linux-syscall-note', references: [] },
          homepage: 'https://www.kernel.org/',
          purl: `pkg:generic/linux@${encodeURIComponent(release)}`,
          properties: {
            ...Object.fromEntries(
              Object.entries(identity).map(([name, value]) => [`source:${name}`, shown(value)]),
            ),
            ...Object.fromEntries(
              patches.map((one) => [`patch:${textOf(one['name'])}`, textOf(one['sha256'])]),
            ),
            ...Object.fromEntries(
              Object.entries(tableOf(inputs['tools'])).map(([name, value]) => [`tool:${name}`, shown(value)]),
            ),
            'config:sha256': textOf(result['configSha256']),
          },
          files: files.filter((file) => !config.includes(file)),
        }),
        component({
          id: 'linux-config',
          kind: 'configuration',
          name: `configuration of linux ${release}`,
          version: release,
          sha256: textOf(result['configSha256']),
          properties: { 'fragments:sha256': shown(inputs['fragments']) },
          files: config,
        }),
      ],
    },
    subject: {
      kind: 'kernel',
      name: manifest.name,
      sha256: textOf(result['sha256']),
      osbuilder: projectVersion(PROJECT_ROOT),
      epochSeconds: clock,
      properties: { arch: textOf(result['arch']), release },
    },
  }
}

function shown(value: Json): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? '')
}

function listFile(folder: string, name: string): ListedEntry {
  const [entry] = listContent([fileEntry(name, readFileSync(join(folder, name)), 0)])
  if (entry === undefined) throw new TypeError(`${name} was not listed`)
  return entry
}
