// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

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

/** A program for this machine, as a kernel is one: with the line that a kernel says of itself. */
function link(
  folder: string,
  words: { readonly banner?: string; readonly other?: string; readonly size?: number },
): string {
  const banner = words.banner ?? bannerOf({})
  const lines = [
    `const char linux_banner[] = ${JSON.stringify(banner)};`,
    `const char other_words[] = ${JSON.stringify(words.other ?? 'nothing')};`,
    `const char more[${String(words.size ?? 1)}] = {1};`,
    'void _start(void) { for (;;) {} }',
  ]
  writeFileSync(join(folder, 'a.c'), lines.join('\n'))
  const [source, program] = [join(folder, 'a.c'), join(folder, 'a.out')]
  execFileSync('gcc', ['-nostdlib', '-static', '-Wl,--build-id=none', '-o', program, source])
  writeFileSync(join(folder, 'System.map-6.6.74'), execFileSync('nm', ['-n', program]))
  execFileSync('strip', [program])
  return readFileSync(program, 'latin1')
}

function bannerOf({
  by = 'a@b',
  compiler = 'gcc (D 12.2) 12.2, GNU ld 2.40',
  number = 1,
  time = 'Wed Nov 18',
}): string {
  return `Linux version 6.6.74 (${by}) (${compiler}) #${String(number)} SMP ${time} 11:06:40 UTC 2026\n`
}

t.test('where two kernels differ, file, field and cause are told', async (t) => {
  const [one, two] = [mkdtempSync(join(scratch, 'one-')), mkdtempSync(join(scratch, 'two-'))]
  const around = { firstPaths: [one], secondPaths: [two], firstSpan: [1, 2], secondSpan: [3, 4] } as const
  const compare = async (
    first: Readonly<Record<string, string>>,
    second: Readonly<Record<string, string>>,
  ): Promise<string[]> => {
    const outputs = [publish(one, first), publish(two, second)] as const
    for (const { path, manifest } of outputs) {
      for (const name of manifest.result['files'] as string[]) {
        if (!name.startsWith('vmlinux') || first === FILES) continue
        const file = join(dirname(path), name)
        writeFileSync(file, readFileSync(file, 'utf8'), 'latin1')
      }
    }
    const found = await compareKernels(...outputs, 0, around)
    return found.map(
      ({ path, field, first: a, second: b, cause }) => `${path}: ${field}: ${a} | ${b}: ${cause}`,
    )
  }
  t.strictSame(await compare(FILES, FILES), [])

  const symbols = [
    'CONFIG_SMP=y\nCONFIG_GCC_VERSION=120200\n',
    'CONFIG_EROFS_FS=y\nCONFIG_GCC_VERSION=130100\n',
  ]
  const config = symbols.map((text) => ({ ...FILES, 'config-6.6.74': text })) as [typeof FILES, typeof FILES]
  const configured = await compare(...config)
  t.match(configured, [
    /^config-6\.6\.74: CONFIG_EROFS_FS: n \| y: the configuration was made from something/,
    /^config-6\.6\.74: CONFIG_GCC_VERSION: 120200 \| 130100: another compiler/,
    /^config-6\.6\.74: CONFIG_SMP: y \| n/,
  ])

  const kernel = (folder: string, words: Parameters<typeof link>[1]): Record<string, string> => {
    const vmlinux = link(folder, words)
    const map = readFileSync(join(folder, 'System.map-6.6.74'), 'utf8')
    // Packed, it has the banner no more.
    const packed = sha256(vmlinux)
    return { ...FILES, 'vmlinux.container': vmlinux, 'vmlinuz.container': packed, 'System.map-6.6.74': map }
  }
  const built = (a: Parameters<typeof link>[1], b: Parameters<typeof link>[1]): Promise<string[]> =>
    compare(kernel(one, a), kernel(two, b))
  const packed = /^vmlinuz\.container: content at .*: it is vmlinux\.container packed, which differs$/
  for (const [words, said] of [
    [
      { time: 'Thu Nov 19' },
      /^vmlinux\.container: banner, time: SMP Wed.* \| SMP Thu.*: the clock.*KBUILD_BUILD_TIMESTAMP/,
    ],
    [{ by: 'me@host' }, /banner, builder: a@b \| me@host: who compiled it.*KBUILD_BUILD_USER/],
    [{ number: 2 }, /banner, build number: 1 \| 2: how often it was linked/],
    [{ compiler: 'gcc (D 12.3) 12.2, GNU ld 2.40' }, /banner, compiler: .*: another compiler or linker/],
  ] as const) {
    t.match(await built({}, { banner: bannerOf(words) }), [said, packed])
  }
  t.match(await built({ other: `in ${one}/x.c` }, { other: `in ${two}/x.c` }), [
    /^vmlinux\.container: content at offset \d+; section \.rodata, at other_words\+0x[0-9a-f]+: .*: it names a folder of the build/,
    packed,
  ])
  t.match(await built({ other: 'abc' }, { other: 'abd' }), [
    /section \.rodata, at other_words\+0x2: .*: something that is not part of the inputs: a random number/,
    packed,
  ])
  const larger = await built({}, { size: 5000 })
  t.match(larger[0], /^vmlinux\.container: content at offset/)
  t.match(
    larger[1],
    /^System\.map-6\.6\.74: .*: addresses of vmlinux\.container, whose code or data has another size/,
  )
})

t.test('modules of two kernels are compared, each by its path', async (t) => {
  const [one, two] = [mkdtempSync(join(scratch, 'one-')), mkdtempSync(join(scratch, 'two-'))]
  const around = { firstPaths: [one], secondPaths: [two], firstSpan: [1, 2], secondSpan: [3, 4] } as const
  const outputs = [one, two].map((folder) => {
    const { path, manifest } = publish(folder)
    mkdirSync(join(folder, 'modules-6.6.74'))
    writeFileSync(join(folder, 'modules-6.6.74/a.ko'), `in ${folder}`)
    utimesSync(join(folder, 'modules-6.6.74/a.ko'), 5, 5)
    utimesSync(join(folder, 'modules-6.6.74'), 5, 5)
    const files = [...Object.keys(FILES), 'modules-6.6.74']
    return { path, manifest: { ...manifest, result: { ...manifest.result, files } } }
  })
  const [first, second] = outputs
  if (first === undefined || second === undefined) throw new TypeError('two were made')
  const found = await compareKernels(first, second, 0, around)
  t.strictSame(
    found.map(({ path, cause }) => [path, cause]),
    [['modules-6.6.74/a.ko', 'it names a folder of the build (working directory or HOME)']],
  )
})
