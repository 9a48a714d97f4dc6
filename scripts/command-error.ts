// SPDX-License-Identifier: Apache-2.0
import { BuildError, isFullDisk } from './errors.ts'

/** A command and its arguments. */
export type Argv = readonly [string, ...string[]] | readonly string[]

/** How many lines of a tool's output an error shows. */
const TAIL_LINES = 12

/** The error for a command that failed, whoever started it. */
export function commandError(argv: Argv, error: unknown, tail: readonly string[]): BuildError {
  const full = fullLine(tail)
  if (full !== undefined) return fullError(full, error)
  // What it says could not be kept: then it was ended, or told of something else.
  if (isFullDisk(error)) return fullError(`for what ${String(argv[0])} says or writes`, error)
  const reason = reasonOf(error)
  return new BuildError('E_COMMAND', `${String(argv[0])} ${reason}`, {
    because: [`command: ${shorten(quote(argv))}`, ...tail],
    cause: error,
  })
}

/** The line of a tool's output that says that the disk is full. The second is how tar says it. */
export function fullLine(lines: readonly string[]): string | undefined {
  return lines.find((line) => /No space left on device|Wrote only \d+ of \d+ bytes/.test(line))
}

/** The error for a disk without space, whoever noticed it. */
export function fullError(what: string, cause?: unknown): BuildError {
  return new BuildError('E_FULL', `no space left: ${what}`, {
    hint: 'df -h    then free some space, or set WORKDIR or TMPDIR to a larger disk',
    cause,
  })
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'failed'
  // The names of execa, and those of node:child_process.
  const { exitCode, code, signal, timedOut, killed } = error as {
    exitCode?: number
    code?: number | string
    signal?: string | null
    timedOut?: boolean
    killed?: boolean
  }
  const status = exitCode ?? (typeof code === 'number' ? code : undefined)
  if (timedOut === true || killed === true) return 'took too long and was stopped'
  if (typeof signal === 'string') return `was ended by ${signal}`
  return status === undefined ? `did not start: ${error.message}` : `failed with status ${String(status)}`
}

/** The last lines that say something. */
export function lastLines(text: string, count: number = TAIL_LINES): string[] {
  const lines = text.split(/\r?\n|\r/).filter((line) => line.trim() !== '')
  return lines.slice(-count)
}

/** A command line as one would type it, on one line. */
export function quote(argv: Argv): string {
  return argv
    .map((word) =>
      /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`).replaceAll('\n', '; ')}'`,
    )
    .join(' ')
}

function shorten(text: string): string {
  return text.length <= 240 ? text : `${text.slice(0, 240)} …`
}
