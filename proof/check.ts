// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import type { Json } from '../scripts/digest.ts'
import { sha256File } from '../scripts/digest.ts'
import { BuildError } from '../scripts/errors.ts'
import { DESCRIPTIONS } from '../scripts/manifest.ts'
import { listContent } from './listing.ts'
import { otherFiles, tableOf, textOf } from './outputs.ts'
import type { Output, Table } from './outputs.ts'
import { readArtifact } from './read-artifact.ts'
import { computeRootHash } from './root-hash.ts'

/** Differences that an error names. */
const NAMED = 8

/**
 * Check that an output is what its manifest says.
 *
 * @throws BuildError E_DIGEST naming both digests
 */
export function checkManifest(output: Output): void {
  const { path, manifest } = output
  const expected: [string, Json][] = [[path, manifest.result['sha256']]]
  if (manifest.kind === 'kernel') {
    for (const file of otherFiles(output)) {
      if (/\/vmlinux/.test(file)) expected.push([file, manifest.result['vmlinuxSha256']])
      if (/\/config-/.test(file)) expected.push([file, manifest.result['configSha256']])
    }
  }
  for (const [file, digest] of expected) {
    // A rootfs is a folder: its SBOM tells its content.
    if (manifest.kind === 'rootfs') continue
    const found = existsSync(file) ? sha256File(file) : 'the file is not there'
    if (found !== digest) throw mismatch(`${file}: is not what its manifest says`, found, textOf(digest))
  }
}

/**
 * Compute the root hash of an image again, when its manifest tells one.
 *
 * @returns the root hash; undefined for an output without
 * @throws BuildError E_DIGEST naming both
 */
export function checkRootHash({ path, manifest }: Output): string | undefined {
  const verity = tableOf(manifest.result['verity'])
  const expected = textOf(verity['rootHash'])
  if (expected === '') return undefined
  const data = { offsetBytes: Number(verity['dataOffsetBytes']), sizeBytes: Number(verity['dataBytes']) }
  const found = computeRootHash(path, data, textOf(verity['salt']))
  if (found !== expected)
    throw mismatch(`${path}: does not have the root hash of its manifest`, found, expected)
  return found
}

/** @throws BuildError E_INPUT when a description is not there, E_DIGEST when it is no JSON */
function readDescription(output: Output, kind: keyof typeof DESCRIPTIONS): Table {
  const file = `${output.path}${DESCRIPTIONS[kind]}`
  if (!existsSync(file)) {
    throw new BuildError('E_INPUT', `${file}: is not there`, {
      hint: 'make sbom    writes it, where the output was built',
    })
  }
  try {
    return tableOf(JSON.parse(readFileSync(file, 'utf8')) as Json)
  } catch (error) {
    throw new BuildError('E_DIGEST', `${file}: is no JSON`, {
      hint: 'make sbom    writes it again',
      cause: error,
    })
  }
}

function rows(value: Json): Table[] {
  return Array.isArray(value) ? value.map((item: Json) => tableOf(item)) : []
}

/** Digests by path, as the SBOM in CycloneDX has them, and that of the output itself. */
function cyclonedxFiles(sbom: Table): {
  readonly output: string
  readonly files: ReadonlyMap<string, string>
} {
  const hash = (item: Table): string =>
    textOf(rows(item['hashes']).find(({ alg }) => alg === 'SHA-256')?.['content'])
  const files = new Map<string, string>()
  const visit = (items: readonly Table[]): void => {
    for (const item of items) {
      if (item['type'] === 'file') files.set(textOf(item['name']).replace(/^\//, ''), hash(item))
      visit(rows(item['components']))
    }
  }
  visit(rows(sbom['components']))
  return { output: hash(tableOf(tableOf(sbom['metadata'])['component'])), files }
}

/** As cyclonedxFiles, of the SBOM in SPDX. */
function spdxFiles(sbom: Table): { readonly output: string; readonly files: ReadonlyMap<string, string> } {
  const sum = (item: Table | undefined): string =>
    textOf(rows(item?.['checksums']).find(({ algorithm }) => algorithm === 'SHA256')?.['checksumValue'])
  return {
    output: sum(rows(sbom['packages']).find((item) => item['SPDXID'] === 'SPDXRef-Output')),
    files: new Map(
      rows(sbom['files']).map((item) => [textOf(item['fileName']).replace(/^\.\//, ''), sum(item)]),
    ),
  }
}

/**
 * Check both SBOMs and the provenance against the bytes of the output: every file of the one is in the
 * other, with its digest.
 *
 * @returns how many files were compared; undefined when nothing reads such a filesystem
 * @throws BuildError E_DIGEST naming the files that differ
 */
export async function checkDescriptions(output: Output, scratchDir: string): Promise<number | undefined> {
  const { path, manifest } = output
  const own = manifest.kind === 'rootfs' ? undefined : textOf(manifest.result['sha256'])
  const statement = readDescription(output, 'provenance')
  const subjects = rows(statement['subject']).map((subject) => textOf(tableOf(subject['digest'])['sha256']))
  const described = {
    cyclonedx: cyclonedxFiles(readDescription(output, 'cyclonedx')),
    spdx: spdxFiles(readDescription(output, 'spdx')),
  }
  const digests = [described.cyclonedx.output, described.spdx.output, subjects[0] ?? '']
  for (const digest of digests) {
    const expected = own ?? described.cyclonedx.output
    if (digest !== expected)
      throw mismatch(`${path}: SBOM or provenance is of another output`, digest, expected)
  }
  const found = await contentOf(output, scratchDir)
  if (found === undefined) return undefined
  for (const [kind, { files }] of Object.entries(described)) {
    const problems = [
      ...[...found].filter(([name]) => !files.has(name)).map(([name]) => `not in the SBOM: /${name}`),
      ...[...files].filter(([name]) => !found.has(name)).map(([name]) => `in the SBOM only: /${name}`),
      ...[...files]
        .filter(([name, digest]) => found.has(name) && found.get(name) !== digest)
        .map(([name]) => `another content: /${name}`),
    ]
    if (problems.length === 0) continue
    const more = problems.length > NAMED ? [`and ${String(problems.length - NAMED)} more`] : []
    throw new BuildError('E_DIGEST', `${path}${DESCRIPTIONS[kind as 'spdx']}: does not tell what is in it`, {
      because: [...problems.slice(0, NAMED), ...more],
      hint: 'make sbom    describes what is there now, where it was built',
    })
  }
  return found.size
}

async function contentOf(
  output: Output,
  scratchDir: string,
): Promise<ReadonlyMap<string, string> | undefined> {
  if (output.manifest.kind === 'kernel') {
    const names = [output.path, ...otherFiles(output)]
    return new Map(names.map((file) => [file.slice(dirname(join(output.path)).length + 1), sha256File(file)]))
  }
  const entries = await readArtifact(output, scratchDir)
  if (entries === undefined) return undefined
  const files = listContent(entries).filter(({ type }) => type === 'file')
  return new Map(files.map(({ path, sha256 }) => [path, sha256]))
}

function mismatch(message: string, found: string, expected: string): BuildError {
  return new BuildError('E_DIGEST', message, {
    because: [`found:    ${found}`, `expected: ${expected}`],
    hint: 'build it again, or get it again from who built it; do not use this one',
  })
}
