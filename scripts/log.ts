// SPDX-License-Identifier: Apache-2.0
import chalk, { chalkStderr } from 'chalk'

import { BuildError } from './errors.ts'

/** Print one kbuild-like line on stdout: a verb of at most seven letters, then what it made. */
export function report(verb: string, ...columns: readonly string[]): void {
  process.stdout.write(
    `  ${chalk.bold(verb.padEnd(7))} ${columns.filter((text) => text !== '').join('   ')}\n`,
  )
}

/** Tell the user something that needs no action now, on stderr. */
export function note(text: string): void {
  process.stderr.write(`  ${chalkStderr.cyan('note')}    ${text}\n`)
}

/** Tell the user of a risk, on stderr. */
export function warn(text: string): void {
  process.stderr.write(`  ${chalkStderr.yellow('WARN')}    ${text}\n`)
}

/** Print a failure as the user needs it: what, why, and what to type next. */
export function reportError(step: string, error: unknown): void {
  const head = chalkStderr.red.bold('ERROR')
  if (!(error instanceof BuildError)) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    process.stderr.write(`${head} ${step}: this is a bug in osbuilder\n${text}\n`)
    return
  }
  const subject = error.message.startsWith('settings:') ? '' : `${step}: `
  const lines = [
    `${head} ${subject}${error.message} [${error.code}]`,
    ...error.because.map((line) => `  ${line}`),
    ...(error.hint === undefined ? [] : [`  ${chalkStderr.bold('try:')} ${error.hint}`]),
  ]
  process.stderr.write(`${lines.join('\n')}\n`)
}

/** `18.4 s` */
export function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`
}

/** `128 MiB`, `37.9 MiB`, `12 KiB` */
export function bytes(count: number): string {
  const mib = count / 1024 / 1024
  if (mib >= 1) return `${Number.isInteger(mib) ? String(mib) : mib.toFixed(1)} MiB`
  return `${(count / 1024).toFixed(0)} KiB`
}
