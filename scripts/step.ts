// SPDX-License-Identifier: Apache-2.0
import minimist from 'minimist'

import type { ContainerStep } from './container/privileges.ts'
import { BuildError, errnoOf, isFullDisk } from './errors.ts'
import { reportError } from './log.ts'
import {
  USER_NAMESPACE,
  WITHOUT_NETWORK,
  hasNetwork,
  isRoot,
  missingIds,
  namespaceError,
  namespaceFacts,
} from './namespace.ts'
import { readSettings, wantsContainer, wantsOffline } from './settings.ts'
import { cleanUpOnSignals } from './temporary.ts'

export interface StepArguments {
  /** Value of a flag that takes one; undefined when it was not given. */
  readonly text: (flag: string) => string | undefined
  readonly has: (flag: string) => boolean
  readonly positional: readonly string[]
}

export interface Step {
  readonly name: string
  readonly usage: string
  /** Flags that take a value, without dash. */
  readonly valueFlags?: readonly string[]
  /** Flags that take none; `h` is always there. */
  readonly switches?: readonly string[]
  /** True when the step reads or writes files of several owners, and so needs root or a user namespace. */
  readonly needsOwners: boolean
  /** The step may be done in a container (USE_DOCKER, USE_PODMAN); absent where that makes no sense. */
  readonly container?: {
    readonly step: ContainerStep
    /** Flags whose value is a path. */
    readonly pathFlags: readonly string[]
    /** What is no flag is a path too. */
    readonly positionalPaths: boolean
    /** Flags that ask for something no container is needed for. */
    readonly outside?: readonly string[]
  }
  readonly main: (given: StepArguments) => Promise<void>
}

/** Run one step as a process: flags, namespace, errors and exit status. The only place that turns an error into output. */
export async function runStep(step: Step, argv: readonly string[] = process.argv.slice(2)): Promise<void> {
  // The bits of a file are ours to choose, not the caller's shell's.
  process.umask(0o022)
  for (const stream of [process.stdout, process.stderr]) {
    // A process may do several steps.
    if (!stream.listeners('error').includes(unlessUnread)) stream.on('error', unlessUnread)
  }
  try {
    const given = parseFlags(step, argv)
    if (given.has('h') || given.has('help')) {
      process.stdout.write(`${step.usage.trim()}\n`)
      return
    }
    const outside = step.container?.outside ?? []
    const isOutside = outside.some((flag) => given.has(flag) || typeof given.text(flag) === 'string')
    // What is wrong with the settings is told by the step, which knows more of them.
    if (step.container !== undefined && !isOutside && wantsContainer()) {
      const settings = readSettings()
      const [{ wantedEngine }, { runInContainer }] = await Promise.all([
        import('./container/engine.ts'),
        import('./container/run-step.ts'),
      ])
      const engine = wantedEngine(settings)
      if (engine !== undefined) {
        process.exitCode = await runInContainer(engine, step, settings, given)
        return
      }
    }
    // What builds offline does so where nobody can be asked, whatever a package's script or a make tries.
    const isCutOff = step.container !== undefined && wantsOffline() && hasNetwork()
    if (step.needsOwners && !isRoot()) {
      process.exitCode = await inUserNamespace(isCutOff)
      return
    }
    if (isCutOff) {
      const user = isRoot() ? [] : ['--user', '--map-current-user']
      process.exitCode = await again(['unshare', ...user, WITHOUT_NETWORK, '--'])
      return
    }
    cleanUpOnSignals()
    await step.main(given)
  } catch (error) {
    const failure = await asBuildError(error)
    reportError(step.name, failure)
    process.exitCode = failure instanceof BuildError ? failure.exitStatus : 70
  }
}

/** Whoever read what we say has gone, as `make help | head` does: that is no failure of the step, which goes on. */
function unlessUnread(error: unknown): void {
  if (errnoOf(error) !== 'EPIPE') throw error
}

function parseFlags(step: Step, argv: readonly string[]): StepArguments {
  const negated = argv.find((word) => word.startsWith('--no-'))
  if (negated !== undefined) {
    throw new BuildError('E_USAGE', `unknown flag ${negated}`, {
      hint: `${step.name}.js -h    lists the flags`,
    })
  }
  const switches = ['h', 'help', ...(step.switches ?? [])]
  const flags = minimist([...argv], {
    string: [...(step.valueFlags ?? []), '_'],
    boolean: switches,
    unknown: (word) => {
      if (!word.startsWith('-')) return true
      throw new BuildError('E_USAGE', `unknown flag ${word}`, {
        hint: `${step.name}.js -h    lists the flags`,
      })
    },
  })
  for (const flag of step.valueFlags ?? []) {
    if (flags[flag] === '' || Array.isArray(flags[flag])) {
      throw new BuildError('E_USAGE', `flag -${flag} takes one value`, {
        hint: `${step.name}.js -h    lists the flags`,
      })
    }
  }
  return {
    text: (flag) => flags[flag] as string | undefined,
    has: (flag) => flags[flag] === true,
    positional: flags._,
  }
}

/** Start this very step again as root of a user namespace, and return its exit status. */
async function inUserNamespace(isCutOff: boolean): Promise<number> {
  const { capture, findTool, requireTools } = await import('./run.ts')
  requireTools(['setpriv', 'unshare', 'newuidmap', 'newgidmap'])
  const facts = namespaceFacts(findTool('newuidmap') ?? 'newuidmap')
  const problem = missingIds(facts)
  if (problem !== undefined) throw problem
  try {
    // Without ids first: where namespaces are forbidden, unshare --map-auto ends and leaves the process that
    // was to map them waiting for ever, with our pipe in its hands.
    await capture(['unshare', '--user', '--', 'true'])
    await capture([...USER_NAMESPACE, 'true'])
  } catch (error) {
    const said =
      error instanceof BuildError ? error.because.filter((line) => !line.startsWith('command:')) : []
    throw namespaceError(facts, said.join(' ') || (error instanceof Error ? error.message : String(error)))
  }
  const [unshare = '', ...flags] = USER_NAMESPACE
  return again([unshare, ...(isCutOff ? [WITHOUT_NETWORK] : []), ...flags])
}

/** Start this very step again behind a command, and return its exit status. */
async function again(within: readonly string[]): Promise<number> {
  const { requireTools, startBackground } = await import('./run.ts')
  requireTools(['setpriv', 'unshare'])
  const command = [
    ...['setpriv', '--pdeathsig', 'KILL', '--'],
    ...[...within, process.execPath, ...process.argv.slice(1)],
  ]
  const child = await startBackground(command, { terminal: true, wholeEnvironment: true })
  // The child is in our process group and hears Ctrl-C itself; we only wait for it to clean up.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined)
  return child.exit
}

/** The system refuses this user a path. */
const FORBIDDEN = new Set(['EACCES', 'EPERM', 'EROFS'])

async function asBuildError(error: unknown): Promise<unknown> {
  const errno = errnoOf(error)
  if (!(error instanceof BuildError) && error instanceof Error && FORBIDDEN.has(errno ?? '')) {
    return new BuildError('E_PERMISSION', error.message, {
      hint: 'ls -ld the path; a folder that sudo made is built in with sudo, or give another WORKDIR',
      cause: error,
    })
  }
  if (!isFullDisk(error)) return error
  const { fullError } = await import('./command-error.ts')
  return fullError(error instanceof Error ? error.message : String(error), error)
}
