// SPDX-License-Identifier: Apache-2.0
import { appendFileSync, existsSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import {
  filesOf,
  isCurrent,
  manifestPath,
  outputStamp,
  readManifest,
  readState,
  writeManifest,
} from '../../scripts/manifest.ts'
import type { Manifest } from '../../scripts/manifest.ts'

function manifestOf(fingerprint: string): Manifest {
  return {
    format: 'osbuilder-manifest-1',
    kind: 'image',
    name: 'out',
    fingerprint,
    inputs: {},
    result: { n: 1 },
  }
}

/** All of a build but its last move. */
function prepare(output: string, fingerprint: string): string {
  const temporary = `${output}.new`
  writeFileSync(temporary, `content of ${fingerprint}`)
  writeManifest(output, temporary, manifestOf(fingerprint), outputStamp(temporary))
  return temporary
}

function build(output: string, fingerprint: string): void {
  renameSync(prepare(output, fingerprint), output)
}

t.test('an output that was made from these inputs is current, from others it is not', async (t) => {
  const output = join(t.testdir(), 'out')
  t.notOk(isCurrent(output, 'one'))
  build(output, 'one')
  t.ok(isCurrent(output, 'one'))
  t.notOk(isCurrent(output, 'two'))
  t.strictSame(readManifest(output), manifestOf('one'))
})

t.test('an output that somebody changed is not current', async (t) => {
  const output = join(t.testdir(), 'out')
  build(output, 'one')
  const { atime, mtime } = statSync(output)
  appendFileSync(output, 'x')
  utimesSync(output, atime, mtime)
  t.notOk(isCurrent(output, 'one'), 'longer')
  build(output, 'one')
  utimesSync(output, 1, 1)
  t.notOk(isCurrent(output, 'one'), 'another time')
  build(output, 'one')
  rmSync(output)
  t.notOk(isCurrent(output, 'one'), 'gone')
})

t.test('an output that was replaced by a copy of itself is not known', async (t) => {
  const output = join(t.testdir(), 'out')
  build(output, 'one')
  writeFileSync(`${output}.copy`, 'content of one')
  renameSync(`${output}.copy`, output)
  t.equal(readState(output), undefined)
})

t.test('after a crash before the last move the old output is still known', async (t) => {
  const output = join(t.testdir(), 'out')
  build(output, 'one')
  const temporary = prepare(output, 'two')
  t.equal(readState(output)?.fingerprint, 'one')
  t.ok(isCurrent(output, 'one'))
  t.notOk(isCurrent(output, 'two'))
  renameSync(temporary, output)
  t.equal(readState(output)?.fingerprint, 'two')
  t.ok(isCurrent(output, 'two'))
})

t.test('after two crashes in a row the output is still known', async (t) => {
  const output = join(t.testdir(), 'out')
  build(output, 'one')
  rmSync(prepare(output, 'two'))
  const temporary = prepare(output, 'three')
  t.ok(isCurrent(output, 'one'))
  renameSync(temporary, output)
  t.ok(isCurrent(output, 'three'))
})

t.test('a crash of the very first build leaves no output and no state of one', async (t) => {
  const output = join(t.testdir(), 'out')
  rmSync(prepare(output, 'one'))
  t.equal(readState(output), undefined)
})

t.test('a manifest of another format is no manifest', async (t) => {
  const output = join(t.testdir({ 'out.json': '{"format":"other"}' }), 'out')
  t.equal(readManifest(output), undefined)
  t.equal(readManifest(`${output}2`), undefined)
})

t.test('an output without its manifest is not current, since a build would write one', async (t) => {
  const output = join(t.testdir(), 'out')
  build(output, 'one')
  rmSync(manifestPath(output))
  t.notOk(isCurrent(output, 'one'))
})

t.test('a state that a power cut left empty is no state', async (t) => {
  const output = join(t.testdir(), 'out')
  build(output, 'one')
  writeFileSync(filesOf(output)[2] ?? '', '')
  t.doesNotThrow(() => isCurrent(output, 'one'))
})

t.test('the files of an output are all there are', async (t) => {
  const output = join(t.testdir(), 'out')
  build(output, 'one')
  const made = filesOf(output).filter((file) => existsSync(file))
  t.equal(made.length, 3, 'itself, its manifest and its state')
  const proofs = filesOf(output).filter((file) => file.startsWith(`${output}.`) && !made.includes(file))
  for (const ending of ['.cdx.json', '.sig', '.json.minisig', '.spdx.json.sig'])
    t.ok(proofs.includes(`${output}${ending}`), ending)
  for (const file of proofs) writeFileSync(file, 'of the bytes that were')
  build(output, 'two')
  t.strictSame(
    proofs.filter((file) => existsSync(file)),
    [],
    'a new output drops what was said and signed of the old one',
  )
})
