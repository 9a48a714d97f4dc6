// SPDX-License-Identifier: Apache-2.0
import { execFile, spawn } from 'node:child_process'
import { appendFileSync, createReadStream, existsSync, readFileSync, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { Socket } from 'node:net'
import type { Readable } from 'node:stream'

import { commandError, lastLines, quote } from './command-error.ts'
import type { Argv } from './command-error.ts'
import { BuildError } from './errors.ts'
import { packageHint } from './host-tools.ts'
import { toolEnvironment } from './settings.ts'

export interface RunOptions {
  readonly cwd?: string
  /** Added to the fixed environment of host tools. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** File that receives stdout; default: the log file. */
  readonly stdoutFile?: string
  /** File that collects what the tool says; without one it is the terminal's. */
  readonly logFile?: string
  /** Also show the tool's output on the terminal. */
  readonly verbose?: boolean
  readonly timeoutMs?: number
  /** Is told each line of stdout, which goes to the log all the same. */
  readonly onLine?: (line: string) => void
}

/** A tool's small answer is at most this long. Unit: characters. */
const MAX_CAPTURE = 16 * 1024 * 1024

/** Path of a host tool, or undefined when it is not installed. */
export function findTool(tool: string): string | undefined {
  if (tool.includes('/')) return existsSync(tool) ? tool : undefined
  for (const folder of (toolEnvironment()['PATH'] ?? '').split(delimiter)) {
    if (folder !== '' && existsSync(join(folder, tool))) return join(folder, tool)
  }
  return undefined
}

/** @throws BuildError E_TOOL_MISSING naming every tool that is not installed, with the package that has it */
export function requireTools(tools: readonly string[], hint: string = 'sudo make setup'): void {
  const missing = tools.filter((tool) => findTool(tool) === undefined)
  if (missing.length === 0) return
  throw new BuildError('E_TOOL_MISSING', `host tools are missing: ${missing.join(', ')}`, {
    because: missing.map((tool) => packageHint(tool)),
    hint,
  })
}

/**
 * Run one host tool without a shell, to its end.
 *
 * @throws BuildError E_TOOL_MISSING when it is not installed, E_FULL when the disk is full,
 *   E_COMMAND with the last lines of its output when it fails otherwise
 */
export async function run(argv: Argv, options: RunOptions = {}): Promise<void> {
  const [tool, ...rest] = checked(argv)
  const { execa } = await import('execa')
  if (options.logFile !== undefined) appendFileSync(options.logFile, `+ ${quote(argv)}\n`)
  if (options.verbose === true) process.stderr.write(`+ ${quote(argv)}\n`)
  const log = sinks(options)
  const logStart = options.logFile === undefined ? 0 : statSync(options.logFile).size
  const sink = options.stdoutFile === undefined ? log : { file: options.stdoutFile }
  try {
    const child = execa(tool, rest, {
      ...baseOptions(options),
      stdin: 'ignore',
      stdout: options.onLine === undefined ? sink : ['pipe', ...[sink].flat()],
      stderr: log,
      buffer: false,
    })
    if (options.onLine !== undefined) tellLines(child.stdout, options.onLine)
    await child
  } catch (error) {
    throw commandError(argv, error, tailOf(options.logFile, logStart))
  }
}

function tellLines(stream: Readable | null, onLine: (line: string) => void): void {
  let rest = ''
  stream?.setEncoding('utf8').on('data', (chunk: string) => {
    const lines = `${rest}${chunk}`.split('\n')
    rest = lines.pop() ?? ''
    lines.forEach(onLine)
  })
}

function sinks(
  options: RunOptions,
): 'inherit' | { file: string; append: true } | ['inherit', { file: string; append: true }] {
  if (options.logFile === undefined) return 'inherit'
  const file = { file: options.logFile, append: true } as const
  return options.verbose === true ? ['inherit', file] : file
}

/**
 * What goes before a tool that runs beside all else: a tenth of the processors, while something else wants
 * them, and the end of all its processes when this one ends, however that does. The kernel tells timeout of
 * it, which tells its process group; busybox's tells the tool alone. Source: nice(1), prctl(2), timeout(1)
 */
const BESIDE = ['setpriv', '--pdeathsig', 'TERM', '--', 'timeout', '3600', 'nice', '-n', '10'] satisfies Argv

/**
 * Run one host tool and return its stdout, for answers that are small by nature. Fails as `run` does.
 *
 * Node starts it itself, as it does for the locks below: a rebuild asks two or three such tools, and
 * loading execa takes longer than they run.
 */
export async function capture(
  argv: Argv,
  options: Pick<RunOptions, 'cwd' | 'env' | 'timeoutMs'> & {
    readonly input?: string | Readable
    /** File that the tool reads on stdin. */
    readonly inputFile?: string
    /** Return what the tool said even when its status is not 0. */
    readonly acceptFailure?: boolean
    /** Nobody waits for it yet. */
    readonly isBeside?: boolean
  } = {},
): Promise<string> {
  const plain = checked(argv)
  const [tool, ...rest] = options.isBeside === true ? beside(plain) : plain
  return new Promise((resolve, reject) => {
    const child = execFile(
      tool,
      rest,
      { ...baseOptions(options), maxBuffer: MAX_CAPTURE, encoding: 'utf8' },
      (error, stdout, stderr) => {
        const hasAnswered =
          error === null || (options.acceptFailure === true && typeof error.code === 'number')
        if (hasAnswered) resolve(stdout.replace(/\n$/, ''))
        else reject(commandError(argv, error, lastLines(stderr)))
      },
    )
    // A tool that does not read its input to the end is judged by its status.
    child.stdin?.on('error', () => undefined)
    const input =
      options.inputFile === undefined
        ? options.input
        : createReadStream(options.inputFile).on('error', reject)
    if (input === undefined || typeof input === 'string') child.stdin?.end(input)
    else if (child.stdin !== null) input.pipe(child.stdin)
  })
}

export interface Background {
  /** Settles with the exit status when the tool ends, however it ends. */
  readonly exit: Promise<number>
  readonly kill: () => void
  /** Close its standard input, when that is a pipe. */
  readonly endInput: () => void
  /** Write to its standard input, when that is a pipe; nothing when it has ended. */
  readonly tell: (text: string) => void
  /** End it with what it started, and wait for that: a step cleans up when it is told to end. */
  readonly stop: () => Promise<void>
}

/** Start a tool and leave it running, its output in a log file or on the terminal. */
export async function startBackground(
  argv: Argv,
  options: RunOptions & {
    /** Give it our standard input, or a pipe that ends when we do. */
    readonly terminal?: boolean | 'pipe'
    readonly wholeEnvironment?: boolean
  } = {},
): Promise<Background> {
  const [tool, ...rest] = checked(argv)
  const { execa } = await import('execa')
  const output =
    options.logFile === undefined ? 'inherit' : ({ file: options.logFile, append: true } as const)
  const child = execa(tool, rest, {
    ...baseOptions(options),
    // A step that starts itself again must read the settings it was given.
    ...(options.wholeEnvironment === true ? { env: { ...options.env }, extendEnv: true } : {}),
    stdin: options.terminal === 'pipe' ? 'pipe' : options.terminal === true ? 'inherit' : 'ignore',
    stdout: output,
    stderr: output,
    buffer: false,
    reject: false,
  })
  // A tool that has ended does not read any more.
  child.stdin?.on('error', () => undefined)
  const exit = child.then((result) => result.exitCode ?? 1)
  return {
    exit,
    stop: async () => {
      child.kill('SIGTERM')
      await exit
    },
    kill: () => {
      child.kill('SIGKILL')
    },
    endInput: () => {
      child.stdin?.end()
    },
    tell: (text) => {
      if (child.stdin?.writable === true) child.stdin.write(text)
    },
  }
}

/**
 * Hold an advisory lock on an open file until this process ends, however it ends.
 *
 * flock(1) locks the open file that it inherits, which stays ours when flock has ended. False when it is
 * taken and is not waited for.
 */
export async function lockDescriptor(
  descriptor: number,
  mode: 'exclusive' | 'shared',
  whenTaken: 'wait' | 'do not wait' = 'wait',
): Promise<boolean> {
  requireTools(['flock'])
  const flags = [`--${mode}`, ...(whenTaken === 'wait' ? [] : ['--nonblock'])]
  const argv = ['flock', ...flags, '3'] as const
  const status = await new Promise((resolve, reject) => {
    spawn('flock', argv.slice(1), {
      env: toolEnvironment(),
      stdio: ['ignore', 'ignore', 'inherit', descriptor],
    })
      .once('error', reject)
      .once('close', resolve)
  })
  if (status === 0) return true
  if (whenTaken === 'do not wait') return false
  throw commandError(argv, Object.assign(new Error(), { code: status }), [])
}

/**
 * Let another process be the last to close an open file that has no name any more: it ends after this one.
 *
 * The kernel gives back the memory and the blocks of such a file in whoever closes it last: 0.13 s for
 * an image of 185 MB, which nobody needs to wait for.
 */
export function closeElsewhere(descriptor: number): void {
  const child = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore', descriptor], detached: true })
  // Without the program the file is closed when this process ends.
  child.on('error', () => undefined)
  child.stdin?.on('error', () => undefined)
  // Neither the program nor the pipe, whose end it waits for, keeps this process from ending.
  child.unref()
  const { stdin } = child
  if (stdin instanceof Socket) stdin.unref()
}

/** The command, of which there is at least the tool; fails as `requireTools` does. */
export function checked(argv: Argv): [string, ...string[]] {
  const [tool, ...rest] = argv
  if (tool === undefined) throw new TypeError('empty command')
  requireTools([tool])
  return [tool, ...rest]
}

function beside(argv: [string, ...string[]]): [string, ...string[]] {
  requireTools(['setpriv', 'timeout', 'nice'])
  return [...BESIDE, ...argv]
}

function baseOptions(options: RunOptions): {
  cwd?: string
  env: Record<string, string>
  extendEnv: false
  timeout?: number
} {
  return {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: toolEnvironment(options.env),
    extendEnv: false,
    ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs }),
  }
}

/** What the tool said last: the log from the place where it was started. */
function tailOf(logFile: string | undefined, startBytes: number): readonly string[] {
  if (logFile === undefined || !existsSync(logFile)) return []
  const said = readFileSync(logFile).subarray(startBytes).toString()
  return [...lastLines(said), `full log: ${logFile}`]
}
