// SPDX-License-Identifier: Apache-2.0
import { capture, findTool } from '../scripts/run.ts'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import type { Json } from '../scripts/digest.ts'
import { PROJECT_ROOT } from '../scripts/paths.ts'
import type { Component } from './inventory.ts'
import { rootfsInputs, tableOf, textOf } from './outputs.ts'
import type { Output, Table } from './outputs.ts'
import type { Description } from './sbom-subject.ts'
import { timeOf } from './sbom-subject.ts'

/** What names this way of building. It is a name, and nothing is fetched from it. */
const BUILD_TYPE = 'https://github.com/kata-containers/osbuilder/proof/v1'
const BUILDER = 'https://github.com/kata-containers/osbuilder'

interface Material {
  readonly name: string
  readonly uri?: string
  readonly digest?: Readonly<Record<string, string>>
  readonly annotations?: Table
}

/** Commit of this project and whether it has changes; undefined outside of a checkout. */
export async function projectCommit(): Promise<
  { readonly commit: string; readonly isClean: boolean } | undefined
> {
  if (!existsSync(join(PROJECT_ROOT, '.git')) || findTool('git') === undefined) return undefined
  const git = ['git', '-c', `safe.directory=${PROJECT_ROOT}`, '-C', PROJECT_ROOT]
  const commit = await capture([...git, 'rev-parse', 'HEAD'], { acceptFailure: true })
  if (!/^[0-9a-f]{40,64}$/.test(commit)) return undefined
  const changes = await capture([...git, 'status', '--porcelain', '--untracked-files=no'], {
    acceptFailure: true,
  })
  return { commit, isClean: changes === '' }
}

/**
 * An in-toto statement of how an output was built, with SLSA's predicate.
 * Sources: https://in-toto.io/Statement/v1, https://slsa.dev/spec/v1.0/provenance
 *
 * It says what the builder itself knows; that another machine ran the build is not claimed.
 */
export function provenance(
  { manifest }: Output,
  { subject, inventory, indexes }: Description,
  project: { readonly commit: string; readonly isClean: boolean } | undefined,
): Table {
  const inputs = rootfsInputs(manifest)
  const own = tableOf(manifest.inputs['settings'])
  return {
    _type: 'https://in-toto.io/Statement/v1',
    subject: [
      { name: subject.name, digest: { sha256: subject.sha256 } },
      ...otherFiles(manifest.kind, inventory.components),
    ],
    predicateType: 'https://slsa.dev/provenance/v1',
    predicate: {
      buildDefinition: {
        buildType: BUILD_TYPE,
        externalParameters: {
          target: subject.kind,
          settings: { ...tableOf(inputs['settings']), ...own },
          ...(manifest.kind === 'kernel'
            ? { arch: manifest.inputs['arch'], variants: manifest.inputs['variants'] }
            : { distro: inputs['distro'], release: inputs['release'], arch: inputs['arch'] }),
          sourceDateEpoch: subject.epochSeconds,
        },
        internalParameters: {
          code: manifest.inputs['code'],
          rootfsCode: inputs['code'],
          tools: { ...tableOf(tableOf(inputs['base'])['tools']), ...tableOf(manifest.inputs['tools']) },
        },
        resolvedDependencies: [
          ...projectMaterial(project),
          ...indexMaterials(indexes),
          ...givenMaterials(inputs),
          ...kernelMaterials(manifest.kind === 'kernel' ? manifest.inputs : {}),
          ...inventory.components
            .filter(({ kind, purl }) => kind === 'package' && purl !== '')
            .map(packageMaterial),
        ] as unknown as Json,
      },
      runDetails: {
        builder: { id: BUILDER, version: { osbuilder: subject.osbuilder } },
        metadata: {
          invocationId:
            manifest.kind === 'image' || manifest.kind === 'initrd' ? subject.sha256 : manifest.fingerprint,
          startedOn: timeOf(subject.epochSeconds),
          finishedOn: timeOf(subject.epochSeconds),
        },
      },
    },
  }
}

/** The other files of a kernel are subjects of their own. */
function otherFiles(kind: string, components: readonly Component[]): Table[] {
  if (kind !== 'kernel') return []
  const files = components.flatMap((item) => item.files).filter(({ path }) => !path.startsWith('vmlinuz'))
  return files.map(({ path, sha256 }) => ({ name: path, digest: { sha256 } }))
}

function projectMaterial(
  project: { readonly commit: string; readonly isClean: boolean } | undefined,
): Material[] {
  if (project === undefined) return []
  return [
    {
      name: 'osbuilder',
      uri: `git+${BUILDER}@${project.commit}`,
      digest: { gitCommit: project.commit },
      annotations: { uncommittedChanges: !project.isClean },
    },
  ]
}

/** The signed indexes that named the packages. */
function indexMaterials(value: Json): Material[] {
  const rows: readonly Json[] = Array.isArray(value) ? value : []
  return rows.map(tableOf).map((row) => ({
    name: `index ${textOf(row['suite']) || textOf(row['url'])}`,
    ...(textOf(row['url']) === '' ? {} : { uri: textOf(row['url']) }),
    digest: { sha256: textOf(row['sha256']) },
  }))
}

/** The agent, and every file that a setting names. */
function givenMaterials(inputs: Table): Material[] {
  const agent = tableOf(inputs['agent'])
  const commit = textOf(agent['commit'])
  const digest = textOf(agent['sha256'])
  const agents: Material[] =
    commit !== ''
      ? [{ name: 'agent', uri: `git+${textOf(agent['url'])}@${commit}`, digest: { gitCommit: commit } }]
      : digest === ''
        ? []
        : [{ name: `agent (${textOf(agent['kind'])})`, digest: { sha256: digest } }]
  const files = Object.entries(tableOf(inputs['files'])).map(([name, value]) => ({
    name,
    digest: { sha256: textOf(value) },
  }))
  const modules = textOf(inputs['modules'])
  return [
    ...agents,
    ...files,
    ...(modules === '' ? [] : [{ name: 'KERNEL_MODULES_DIR', digest: { sha256: modules } }]),
  ]
}

/** Sources, patches and fragments of a kernel. */
function kernelMaterials(inputs: Table): Material[] {
  const source = tableOf(inputs['source'])
  if (Object.keys(source).length === 0) return []
  const digest = textOf(source['sha256'])
  const commit = textOf(source['commit'])
  const patches: readonly Json[] = Array.isArray(inputs['patches']) ? inputs['patches'] : []
  return [
    {
      name: textOf(inputs['title']) || 'linux',
      ...(digest === '' && commit === ''
        ? {}
        : {
            digest: {
              ...(digest === '' ? {} : { sha256: digest }),
              ...(commit === '' ? {} : { gitCommit: commit }),
            },
          }),
      annotations: source,
    },
    ...patches
      .map(tableOf)
      .map((one) => ({ name: `patch ${textOf(one['name'])}`, digest: { sha256: textOf(one['sha256']) } })),
    { name: 'configuration fragments', digest: { sha256: textOf(inputs['fragments']) } },
  ]
}

function packageMaterial({ name, version, purl, sha256 }: Component): Material {
  return { name: `${name} ${version}`, uri: purl, ...(sha256 === '' ? {} : { digest: { sha256 } }) }
}
