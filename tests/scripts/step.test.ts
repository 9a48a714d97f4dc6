// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

import t from 'tap'

import { BUILD_ROOT } from '../../scripts/paths.ts'
import { moduleUrl, runNode, runScript } from './child.ts'

const STEPS = [
  'rootfs-builder/rootfs.js',
  'image-builder/image.js',
  'initrd-builder/initrd.js',
  'scripts/boot/boot.js',
]

/** Text of a module that runs a step made for the test; what it was given is printed as JSON. */
function scriptOf(args: readonly string[], main: string): string {
  return `
    import { runStep } from '${moduleUrl('scripts/step.js')}'
    await runStep(
      { name: 'try', usage: '\\n try it \\n', valueFlags: ['o'], switches: ['i'], needsOwners: false,
        main: async (given) => {
          ${main}
          console.log(JSON.stringify([given.text('o') ?? null, given.has('i'), given.positional]))
        } },
      ${JSON.stringify(args)},
    )`
}

function tryStep(args: readonly string[], main: string = '') {
  return runScript(scriptOf(args, main))
}

for (const step of STEPS) {
  t.test(`${step} -h prints its usage and does nothing else`, async (t) => {
    const { status, stdout, stderr } = runNode([join(BUILD_ROOT, step), '-h'], { WORKDIR: '/' })
    t.equal(status, 0)
    t.equal(stderr, '')
    t.match(stdout, /-h +show this help/)
    t.match(stdout, new RegExp(`^  ${step.split('/').at(-1) ?? ''} `, 'm'))
    for (const line of stdout.split('\n')) t.ok(line.length <= 110, line)
  })

  t.test(`${step} refuses an unknown flag with status 64`, async (t) => {
    const { status, stdout, stderr } = runNode([join(BUILD_ROOT, step), '-Z'])
    t.equal(status, 64)
    t.equal(stdout, '')
    t.match(stderr, /^ERROR \w+: unknown flag -Z \[E_USAGE\]\n {2}try: /)
  })
}

t.test('flags and positionals reach the step as texts', async (t) => {
  t.strictSame(JSON.parse(tryStep(['-o', '007', '-i', '42']).stdout), ['007', true, ['42']])
  t.strictSame(JSON.parse(tryStep([]).stdout), [null, false, []])
  t.strictSame(JSON.parse(tryStep(['--', '-x']).stdout), [null, false, ['-x']])
})

t.test('a flag without its value or given twice is refused with status 64', async (t) => {
  for (const args of [['-o'], ['-o', 'a', '-o', 'b']]) {
    const { status, stderr } = tryStep(args)
    t.equal(status, 64)
    t.match(stderr, /flag -o takes one value/)
  }
})

t.test('an unknown long flag is refused with status 64', async (t) => {
  t.equal(tryStep(['--nothing']).status, 64)
  t.equal(tryStep(['--no-thing']).status, 64)
})

t.test('a value flag that is negated is refused with status 64', async (t) => {
  t.equal(tryStep(['--no-o']).status, 64)
})

t.test('a failure of the step gives its own exit status', async (t) => {
  t.equal(tryStep([], `throw Object.assign(new Error('disk'), { code: 'ENOSPC' })`).status, 73)
  t.equal(tryStep([], `throw new Error('bug')`).status, 70)
})

t.test('the umask of the caller plays no part', async (t) => {
  t.equal(tryStep([], 'console.error(process.umask().toString(8))').stderr, '22\n')
})

t.test('a step whose reader has gone goes on to its end', async (t) => {
  // The reader is gone once our end of stdin is closed. console.log would hide what went wrong.
  const main = `
    for await (const _ of process.stdin);
    process.stdout.write('unread')
    await new Promise(setImmediate)
    process.stderr.write('said later')`
  const child = spawn(process.execPath, ['--input-type=module', '-e', scriptOf([], main)])
  const said: Buffer[] = []
  child.stderr.on('data', (data: Buffer) => said.push(data))
  const ended = once(child, 'close')
  child.stdout.destroy()
  await once(child.stdout, 'close')
  child.stdin.end()
  t.strictSame(await ended, [0, null])
  t.equal(Buffer.concat(said).toString(), 'said later')
})
