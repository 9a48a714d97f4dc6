// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { closeSync, openSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { writeAll } from '../../scripts/write-all.ts'
import { moduleUrl } from './child.ts'

t.test('bytes go where they are to, one after the other or at a place', (t) => {
  const file = join(t.testdir(), 'file')
  const descriptor = openSync(file, 'w')
  writeAll(descriptor, Buffer.from('abc'))
  writeAll(descriptor, Buffer.from('def'))
  writeAll(descriptor, Buffer.from('X'), 1)
  writeAll(descriptor, Buffer.alloc(0))
  closeSync(descriptor)
  t.equal(readFileSync(file, 'utf8'), 'aXcdef')
  t.end()
})

t.test('a file that can be written only in part keeps its old content', (t) => {
  const folder = t.testdir()
  const file = join(folder, 'file')
  writeFileSync(file, 'old')
  const script = `
    import { writeWhole } from '${moduleUrl('scripts/temporary.js')}'
    try { writeWhole(${JSON.stringify(file)}, 'x'.repeat(3000)) } catch (error) { console.log(error.code) }`
  // No file may be longer than 1024 bytes: as on a full disk, the first write succeeds, with a part of it.
  const limited = [
    '-c',
    'ulimit -f 1; exec "$@"',
    'bash',
    process.execPath,
    '--input-type=module',
    '-e',
    script,
  ]
  t.equal(execFileSync('bash', limited, { encoding: 'utf8' }), 'EFBIG\n')
  t.equal(readFileSync(file, 'utf8'), 'old')
  t.strictSame(readdirSync(folder), ['file'])
  t.end()
})
