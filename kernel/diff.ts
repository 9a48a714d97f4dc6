// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync } from 'node:fs'

import { BuildError } from '../scripts/errors.ts'
import { report } from '../scripts/log.ts'
import { runStep } from '../scripts/step.ts'
import type { StepArguments } from '../scripts/step.ts'
import { differences, parseConfig } from './config-file.ts'
import type { Config } from './config-file.ts'

const USAGE = `
Compare two kernel configurations by meaning: order, comments and spelling do not count.

  diff.js A B

  -h  show this help

A and B are files such as WORKDIR/config-6.1.192.
`

await runStep({ name: 'kernel-diff', usage: USAGE, needsOwners: false, main })

function main({ positional }: StepArguments): Promise<void> {
  const [a = '', b = ''] = positional
  if (a === '' || b === '' || positional.length > 2) {
    throw new BuildError('E_USAGE', 'two configurations are compared', {
      hint: 'make kernel-diff A=workdir/config-6.1.192 B=/boot/config-…',
    })
  }
  const rows = differences(readConfig('A', a), readConfig('B', b))
  const width = Math.max(0, ...rows.map(({ name }) => name.length))
  for (const { name, before, after } of rows) {
    process.stdout.write(`  ${name.padEnd(width)}  ${before} -> ${after}\n`)
  }
  report('DIFF', rows.length === 0 ? 'the two mean the same' : `${String(rows.length)} symbols differ`)
  return Promise.resolve()
}

function readConfig(name: string, file: string): Config {
  if (!existsSync(file))
    throw new BuildError('E_INPUT', `${name}=${file}: no such file`, { hint: 'ls WORKDIR/config-*' })
  const config = parseConfig(readFileSync(file, 'utf8'))
  if (config.size > 0) return config
  throw new BuildError('E_INPUT', `${name}=${file}: sets no CONFIG_ symbol`, {
    hint: 'give a .config, or a config-<version> as it lies beside a kernel',
  })
}
