// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { bytes, seconds } from '../../scripts/log.ts'
import { moduleUrl, runScript } from './child.ts'

const IMPORTS = `
  import { BuildError } from '${moduleUrl('scripts/errors.js')}'
  import { note, report, reportError, warn } from '${moduleUrl('scripts/log.js')}'
`

t.test('an error is told as what, why and what to type next, on stderr', async (t) => {
  const details = `{ because: ['first reason', 'second reason'], hint: 'make again' }`
  const { stdout, stderr } = runScript(
    `${IMPORTS} reportError('image', new BuildError('E_INPUT', 'disk.img: no such file', ${details}))`,
  )
  t.equal(stdout, '')
  t.equal(
    stderr,
    'ERROR image: disk.img: no such file [E_INPUT]\n  first reason\n  second reason\n  try: make again\n',
  )
})

t.test('an error of the settings is not blamed on the step', async (t) => {
  const { stderr } = runScript(
    `${IMPORTS} reportError('image', new BuildError('E_CONFIG', 'settings: 1 problem', { because: ['A=b: bad'] }))`,
  )
  t.equal(stderr, 'ERROR settings: 1 problem [E_CONFIG]\n  A=b: bad\n')
})

t.test('anything else that is thrown is told as a bug, with its stack', async (t) => {
  const { stderr } = runScript(`${IMPORTS} reportError('image', new TypeError('no x of y'))`)
  t.match(stderr, /^ERROR image: this is a bug in osbuilder\nTypeError: no x of y\n {4}at /)
  t.equal(
    runScript(`${IMPORTS} reportError('image', 'text')`).stderr,
    'ERROR image: this is a bug in osbuilder\ntext\n',
  )
})

t.test('a report is one line on stdout, with a verb seven wide and no empty columns', async (t) => {
  const { stdout, stderr } = runScript(
    `${IMPORTS} report('IMAGE', 'a.img', '', '8 MiB'); note('n'); warn('w')`,
  )
  t.equal(stdout, '  IMAGE   a.img   8 MiB\n')
  t.equal(stderr, '  note    n\n  WARN    w\n')
})

t.test('sizes and times have their unit', async (t) => {
  t.equal(bytes(128 * 1024 * 1024), '128 MiB')
  t.equal(bytes(37.94 * 1024 * 1024), '37.9 MiB')
  t.equal(bytes(12 * 1024), '12 KiB')
  t.equal(seconds(18_449), '18.4 s')
})
