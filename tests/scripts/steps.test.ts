// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'

import t from 'tap'

import { hasNetwork } from '../../scripts/namespace.ts'
import { BUNDLE_ROOT } from '../../scripts/paths.ts'
import { runNode } from './child.ts'

const STEPS = join(BUNDLE_ROOT, 'scripts/steps.js')

t.test('steps are done in their order, each with its own arguments', async (t) => {
  const { status, stdout, stderr } = runNode([STEPS, 'image', '-h', '--', 'initrd', '-h'])
  t.equal(status, 0, stderr)
  t.match(stdout, /^ {2}image\.js [^]*^ {2}initrd\.js /m)
})

t.test('a step that fails is the last, and its status is that of all', async (t) => {
  const { status, stdout, stderr } = runNode([STEPS, 'image', '-Z', '--', 'initrd', '-h'])
  t.equal(status, 64)
  t.equal(stdout, '')
  t.match(stderr, /^ERROR image: unknown flag -Z \[E_USAGE\]\n {2}try: image.js -h [^\n]*\n$/)
})

t.test('the next step follows one that had to start itself again, and not when that failed', async (t) => {
  t.ok(hasNetwork(), 'OFFLINE=yes starts a step again, where there is no network')
  const folder = t.testdir({ tree: { file: 'text' } })
  const settings = { OFFLINE: 'yes', WORKDIR: join(folder, 'work'), INITRD_COMPRESSION: 'none' }
  const packing = (tree: string) => ['initrd', '-p', '-o', join(folder, 'initrd'), join(folder, tree)]
  const done = runNode([STEPS, ...packing('tree'), '--', 'image', '-h'], settings)
  t.equal(done.status, 0, done.stderr)
  t.notMatch(done.stderr, 'Warning', 'as of old code in a package, when it is taken for ours')
  t.match(done.stdout, /INITRD[^]*^ {2}image\.js /m)
  const failed = runNode([STEPS, ...packing('nowhere'), '--', 'image', '-h'], settings)
  t.equal(failed.status, 66, failed.stderr)
  t.notMatch(failed.stdout, 'image.js')
})

t.test('what is no step is refused with status 64, before or after another one', async (t) => {
  for (const words of [[], ['boot'], ['initrd', '-h', '--', 'boot']]) {
    const { status, stderr } = runNode([STEPS, ...words])
    t.equal(status, 64)
    t.match(stderr, /^ERROR steps: unknown step "(boot)?" \[E_USAGE\]\n {2}try: steps.js -h/)
  }
})
