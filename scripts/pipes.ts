// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process'
import type { ChildProcess, StdioOptions } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import type { Readable, Writable } from 'node:stream'

import { commandError, lastLines } from './command-error.ts'
import { checked } from './run.ts'
import type { Argv } from './command-error.ts'
import { toolEnvironment } from './settings.ts'

export interface Filter<Output = void> {
  readonly stdin: Writable
  /** Settles when the tool has ended well and its output is complete. */
  readonly done: Promise<Output>
}

/**
 * Start a tool that reads a stream and writes a new file, which it is given as it is: nothing of it passes
 * through here. Fails as `run` does.
 */
export function startFilter(argv: Argv, outputFile: string): Filter {
  checked(argv)
  // A new file: a link that waits under its name is not followed.
  const output = openSync(outputFile, 'wx')
  try {
    const { stdin, ended } = start(argv, ['pipe', output, 'pipe'])
    return { stdin, done: ended }
  } finally {
    closeSync(output)
  }
}

/** Start a tool that reads a stream, and keep what it writes in memory, in pieces. Fails as `run` does. */
export function startCollector(argv: Argv): Filter<Buffer[]> {
  const { child, stdin, ended } = start(argv, ['pipe', 'pipe', 'pipe'])
  const chunks: Buffer[] = []
  child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk))
  return { stdin, done: ended.then(() => chunks) }
}

/** A tool that does one thing after another. */
export interface Worker {
  /** Give it words, and wait until it has done what they ask for. Fails as `run` does. */
  readonly ask: (...words: readonly string[]) => Promise<void>
  /** Let it end; nothing may be asked any more. */
  readonly end: () => void
}

/**
 * Start a tool that reads words, each ended by a zero byte, and writes a line for each request it has done.
 *
 * To start a process for each would cost more than most of them do: ours is large by the time, and a fork
 * of it takes seven milliseconds.
 */
export function startWorker(argv: Argv): Worker {
  const { child, stdin, ended } = start(argv, ['pipe', 'pipe', 'pipe'])
  const waiting: (() => void)[] = []
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    for (const done of waiting.splice(0, chunk.split('\n').length - 1)) done()
  })
  const failure = ended.then((): never => {
    throw commandError(argv, new Error('it ended too early'), [])
  })
  // Whoever asks is told.
  failure.catch(() => undefined)
  return {
    ask: (...words) => {
      const done = new Promise<void>((resolve) => {
        waiting.push(resolve)
      })
      stdin.write(words.map((word) => `${word}\0`).join(''))
      return Promise.race([done, failure])
    },
    end: () => {
      stdin.end()
    },
  }
}

function start(
  argv: Argv,
  stdio: StdioOptions,
): { child: ChildProcess; stdin: Writable; ended: Promise<void> } {
  const [tool, ...rest] = checked(argv)
  const child = spawn(tool, rest, { env: toolEnvironment(), stdio })
  const { stdin } = child
  if (stdin === null) throw new TypeError('a tool without its pipe')
  // A tool that does not read its input to the end is judged by its status.
  stdin.on('error', () => undefined)
  const ended = endOf(child).then(
    ({ status, signal, said }) => {
      if (status === 0) return
      throw commandError(argv, Object.assign(new Error(), { code: status, signal }), lastLines(said))
    },
    (error: unknown) => {
      throw commandError(argv, error, [])
    },
  )
  return { child, stdin, ended }
}

/** One side of a pipe. */
export interface PipeEnd {
  readonly argv: Argv
  /** Added to the fixed environment of host tools; `whole`: our own environment, for a step of ours. */
  readonly env: Readonly<Record<string, string>> | 'whole'
}

export interface EndOfPipe {
  readonly status: number
  /** What ended it, when it did not end itself. */
  readonly signal: string | null
  /** The last of what it said on stderr. */
  readonly said: string
}

/** Let one tool read what another writes. Returns how they ended, the writer first. */
export async function connect(from: PipeEnd, to: PipeEnd): Promise<readonly [EndOfPipe, EndOfPipe]> {
  const start = (
    { argv, env }: PipeEnd,
    stdio: ['ignore', 'pipe', 'pipe'] | [Readable, 'inherit', 'pipe'],
  ) => {
    const [tool, ...rest] = checked(argv)
    return spawn(tool, rest, { stdio, ...(env === 'whole' ? {} : { env: toolEnvironment(env) }) })
  }
  const writer = start(from, ['ignore', 'pipe', 'pipe'])
  const reader = start(to, [writer.stdout as Readable, 'inherit', 'pipe'])
  // Only the reader has it now: the writer is told when nobody reads any more.
  writer.stdout?.destroy()
  return Promise.all([endOf(writer), endOf(reader)])
}

/** Most of what a tool said that is kept. Unit: characters. */
const KEPT_WORDS = 65536

function endOf(child: ReturnType<typeof spawn>): Promise<EndOfPipe> {
  let said = ''
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    said = `${said}${chunk}`.slice(-KEPT_WORDS)
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject).once('close', (status, signal) => {
      resolve({ status: status ?? 1, signal, said })
    })
  })
}
