// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../errors.ts'
import { PROJECT_ROOT } from '../paths.ts'
import { capture, startBackground } from '../run.ts'
import type { Background } from '../run.ts'
import { PROXIES } from '../settings.ts'
import type { Settings } from '../settings.ts'
import type { Engine } from './engine.ts'
import { privileges } from './privileges.ts'
import type { ContainerStep } from './privileges.ts'

/** How often a container is told that we are still there, and how long it waits for that. */
const BEAT_MS = 15_000
const PATIENCE_SECONDS = 90

/**
 * Lines of bash that end when the step outside is gone: its end closes our standard input, and when the
 * connection or the engine is lost instead, it is no longer heard of.
 */
export const UNTIL_GONE = `while read -r -t ${String(PATIENCE_SECONDS)} _; do :; done`

/** Signals that end a step. */
export const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** What a container is started for. */
export interface Job {
  readonly engine: Engine
  readonly image: string
  /** Name of the container. */
  readonly container: string
  readonly step: ContainerStep
  readonly environment: Readonly<Record<string, string>>
  readonly settings: Settings
}

/**
 * Start a container that ends with us.
 *
 * @param lines bash of its first process, which gets `words`; its standard input is a pipe of ours
 */
export async function startContainer(
  job: Job,
  mounts: readonly string[],
  lines: string,
  words: readonly string[],
): Promise<Background> {
  const { engine, settings, environment } = job
  const argv = [
    ...[...engine.argv, 'run', '--rm', '--interactive', '--name', job.container],
    ...['--network', settings.OFFLINE ? 'none' : 'host'],
    ...(engine.name === 'docker' && settings.DOCKER_RUNTIME !== ''
      ? ['--runtime', settings.DOCKER_RUNTIME]
      : []),
    ...privileges(engine, job.step),
    ...mounts.flatMap((mount) => ['--volume', mount]),
    ...Object.entries(environment).flatMap(([key, value]) => [
      '--env',
      // A proxy may have a password, which is not for the list of processes.
      PROXIES.has(key) ? key : `${key}=${value}`,
    ]),
    ...['--workdir', engine.isApart ? '/' : PROJECT_ROOT, '--entrypoint', 'bash', job.image],
    ...['--norc', '-c', lines, 'osbuilder', ...words],
  ]
  const child = await startBackground(argv, {
    terminal: 'pipe',
    env: { ...proxiesOf(environment), ...engine.env },
  })
  for (const signal of SIGNALS) process.on(signal, () => child.endInput())
  const beat = setInterval(() => child.tell('\n'), BEAT_MS)
  void child.exit.then(() => clearInterval(beat))
  return child
}

/** How long an engine may take to remove a container. Unit: ms. */
const REMOVE_MS = 30_000

/** Remove a container that may be left, from an engine that may be gone. */
export async function removeContainer({ engine, container }: Job): Promise<void> {
  const argv = [...engine.argv, 'rm', '--force', container]
  try {
    await capture(argv, { env: engine.env, acceptFailure: true, timeoutMs: REMOVE_MS })
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
  }
}

function proxiesOf(environment: Job['environment']): Record<string, string> {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => PROXIES.has(name)))
}
