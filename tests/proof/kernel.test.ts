// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { checkDescriptions, checkManifest } from '../../proof/check.ts'
import { compareKernels } from '../../proof/compare-kernels.ts'
import { cyclonedx } from '../../proof/cyclonedx.ts'
import { describeKernel } from '../../proof/describe-kernel.ts'
import type { Output } from '../../proof/outputs.ts'
import { provenance } from '../../proof/provenance.ts'
import { spdx } from '../../proof/spdx.ts'
import { sha256 } from '../../scripts/digest.ts'
import { cyclonedxChecker, spdxChecker } from './schemas.ts'

const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
t.teardown(() => {
  rmSync(scratch, { recursive: true, force: true })
})

const FILES = {
  'vmlinuz.container': 'compressed',
  'vmlinux.container': 'plain',
  'config-6.6.74': 'CONFIG_EROFS_FS=y\n',
  'System.map-6.6.74': 'map',
}

/** A kernel as kernel/outputs.ts publishes it. */
function publish(folder: string, files: Readonly<Record<string, string>> = FILES): Output {
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content)
  return {
    path: join(folder, 'vmlinuz.container'),
    manifest: {
      format: 'osbuilder-manifest-1',
      kind: 'kernel',
      name: 'vmlinuz.container',
      fingerprint: 'f'.repeat(64),
      inputs: {
        arch: 'x86_64',
        variants: ['measured'],
        source: { package: 'linux-source-6.6', version: '6.6.74-1', sha256: 'a'.repeat(64) },
        title: 'linux-source-6.6 6.6.74-1 of bookworm',
        patches: [{ name: '6.6/fix.patch', sha256: 'b'.repeat(64) }],
        fragments: 'c'.repeat(64),
        epochSeconds: 1_795_000_000,
        code: 'e'.repeat(64),
        tools: { gcc: 'gcc 12.2.0' },
      },
      result: {
        arch: 'x86_64',
        release: '6.6.74',
        files: Object.keys(files),
        sha256: sha256(FILES['vmlinuz.container']),
        vmlinuxSha256: sha256(FILES['vmlinux.container']),
        configSha256: sha256(FILES['config-6.6.74']),
      },
    },
  }
}

function describe(output: Output): void {
  const description = describeKernel(output)
  const values = {
    '.cdx.json': cyclonedx(description),
    '.spdx.json': spdx(description),
    '.intoto.json': provenance(output, description, { commit: '1'.repeat(40), isClean: true }),
  }
  for (const [ending, value] of Object.entries(values))
    writeFileSync(`${output.path}${ending}`, JSON.stringify(value))
}

t.test('a kernel is described with its sources, patches, configuration and compiler', (t) => {
  const output = publish(scratch)
  const description = describeKernel(output)
  const [bom, document] = [cyclonedx(description), spdx(description)]
  t.strictSame(cyclonedxChecker()(JSON.parse(JSON.stringify(bom))), [])
  t.strictSame(spdxChecker()(JSON.parse(JSON.stringify(document))), [])
  const text = JSON.stringify(bom)
  for (const fact of [
    'a'.repeat(64),
    'b'.repeat(64),
    sha256(FILES['config-6.6.74']),
    'gcc 12.2.0',
    'GPL-2.0-only',
  ])
    t.match(text, fact)
  const statement = provenance(output, description, undefined)
  t.match(statement, {
    subject: [
      { name: 'vmlinuz.container', digest: { sha256: sha256('compressed') } },
      { name: 'vmlinux.container' },
    ],
  })
  t.match(JSON.stringify(statement), `"name":"patch 6.6/fix.patch","digest":{"sha256":"${'b'.repeat(64)}"}`)
  t.end()
})

t.test('its files are checked against manifest and SBOMs', async (t) => {
  const output = publish(scratch)
  describe(output)
  checkManifest(output)
  t.equal(await checkDescriptions(output, scratch), 4)
  writeFileSync(join(scratch, 'System.map-6.6.74'), 'another')
  checkManifest(output)
  await t.rejects(checkDescriptions(output, scratch), {
    code: 'E_DIGEST',
    because: ['another content: /System.map-6.6.74'],
  })
  writeFileSync(join(scratch, 'config-6.6.74'), 'CONFIG_EROFS_FS=n\n')
  t.throws(() => {
    checkManifest(output)
  }, /config-6\.6\.74: is not what its manifest says/)
  rmSync(join(scratch, 'config-6.6.74'))
  t.throws(() => {
    checkManifest(output)
  }, /config-6\.6\.74: is not what its manifest says/)
})

t.test('two kernels are compared file by file', (t) => {
  const [one, two] = [mkdtempSync(join(scratch, 'one-')), mkdtempSync(join(scratch, 'two-'))]
  const around = { firstPaths: [one], secondPaths: [two], firstSpan: [1, 2], secondSpan: [3, 4] } as const
  t.strictSame(compareKernels(publish(one), publish(two), around), [])
  const differing = compareKernels(
    publish(one, { ...FILES, 'vmlinux.container': `at ${one}` }),
    publish(two, { ...FILES, 'vmlinux.container': `at ${two}` }),
    around,
  )
  t.strictSame(
    differing.map(({ path, cause }) => [path, cause]),
    [['vmlinux.container', 'it names a folder of the build (working directory or HOME)']],
  )
  t.end()
})
