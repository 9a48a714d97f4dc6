// SPDX-License-Identifier: Apache-2.0
import type { ArchName } from '../arch.ts'
import { BuildError } from '../errors.ts'
import { note } from '../log.ts'
import { isRoot } from '../namespace.ts'
import { capture, findTool } from '../run.ts'
import { engineEnvironment, hostArch } from '../settings.ts'
import type { Settings } from '../settings.ts'

export type EngineName = 'docker' | 'podman'

/** A container engine that answers. */
export interface Engine {
  readonly name: EngineName
  /** Command prefix. */
  readonly argv: readonly string[]
  /** What tells the command where its engine is. */
  readonly env: Readonly<Record<string, string>>
  /** Where it is, in words, when the caller said so. */
  readonly place: string
  /** Architecture of the machine that it is on; undefined when it has a name we do not know. */
  readonly arch: ArchName | undefined
  /**
   * True when folders of the host cannot be lent to its containers: it is on another machine, or its root
   * would write files of owners that are not the caller's.
   */
  readonly isApart: boolean
}

/** How long an engine may take to answer. Unit: ms. */
const ANSWER_MS = 30_000

/** What a machine is called by the engines. Source: GOARCH, and uname -m. */
const ARCH_OF: Readonly<Record<string, ArchName>> = {
  ...{ amd64: 'x86_64', x86_64: 'x86_64', arm64: 'aarch64', aarch64: 'aarch64' },
  ...{ ppc64le: 'ppc64le', s390x: 's390x' },
}

/**
 * The engine that the settings ask for. Docker wins, as upstream.
 *
 * @throws BuildError E_CONFIG when they say where it is, but not that it is to be used
 */
export function wantedEngine(
  settings: Pick<Settings, 'USE_DOCKER' | 'USE_PODMAN' | 'BUILDER'>,
): EngineName | undefined {
  if (settings.USE_DOCKER && settings.USE_PODMAN)
    note('USE_DOCKER and USE_PODMAN are both set: docker is used')
  if (settings.USE_DOCKER) return 'docker'
  if (settings.USE_PODMAN) return 'podman'
  if (settings.BUILDER === '') return undefined
  throw new BuildError('E_CONFIG', `BUILDER=${settings.BUILDER}: names an engine, and none is to be used`, {
    hint: 'add USE_DOCKER=yes or USE_PODMAN=yes, or leave BUILDER out',
  })
}

/** Where BUILDER says that the engine for this guest is; empty when it says nothing. */
export function builderPlace(settings: Pick<Settings, 'BUILDER' | 'ARCH'>): string {
  const arch = settings.ARCH === 'host' ? hostArch() : settings.ARCH
  return settings.BUILDER.replaceAll('{arch}', arch)
}

/** How the command of an engine is told where the engine is: by URL, or by the name it has there. */
export function placeWords(name: EngineName, place: string): string[] {
  if (place === '') return []
  const isUrl = place.includes('://')
  if (name === 'docker') return [isUrl ? '--host' : '--context', place]
  return ['--remote', isUrl ? '--url' : '--connection', place]
}

type EngineSettings = Pick<Settings, 'DOCKER_RUNTIME' | 'BUILDER' | 'ARCH'>

/**
 * Find the engine, and make sure that it answers and is of the kind its name says.
 *
 * @throws BuildError E_TOOL_MISSING when it is not installed, E_CONFIG when it does not answer
 */
export async function openEngine(name: EngineName, settings: EngineSettings): Promise<Engine> {
  const setting = name === 'docker' ? 'USE_DOCKER' : 'USE_PODMAN'
  if (findTool(name) === undefined) {
    throw new BuildError('E_TOOL_MISSING', `${setting}=yes: ${name} is not installed`, {
      hint: `sudo apt-get install ${name === 'docker' ? 'docker.io' : 'podman'}    or leave ${setting} out to build on this host`,
    })
  }
  const place = builderPlace(settings)
  const env = placeEnvironment(place)
  await refuseOther(name, env)
  const argv = [name, ...placeWords(name, place)]
  const asked: Asked = { setting, name, place, env }
  return name === 'docker' ? openDocker(asked, argv) : openPodman(asked, argv, settings)
}

/** BUILDER wins over what the environment says. */
function placeEnvironment(place: string): Record<string, string> {
  const env = engineEnvironment()
  if (place === '') return env
  const others = new Set(['DOCKER_HOST', 'DOCKER_CONTEXT', 'CONTAINER_HOST', 'CONTAINER_CONNECTION'])
  return Object.fromEntries(Object.entries(env).filter(([name]) => !others.has(name)))
}

/** podman-docker installs podman under docker's name; its flags and its files are podman's. */
async function refuseOther(name: EngineName, env: Engine['env']): Promise<void> {
  if (name !== 'docker') return
  const said = await capture([name, '--version'], { env, acceptFailure: true, timeoutMs: ANSWER_MS })
  if (!/podman/i.test(said)) return
  throw new BuildError('E_CONFIG', 'USE_DOCKER=yes: docker is podman here, under another name', {
    because: [`docker --version: ${said.split('\n')[0] ?? ''}`],
    hint: 'use USE_PODMAN=yes in its place',
  })
}

async function openDocker(asked: Asked, argv: readonly string[]): Promise<Engine> {
  const format = '{{.Architecture}} {{json .SecurityOptions}}'
  const [arch = '', security = ''] = parts(await ask(asked, [...argv, 'info', '--format', format]))
  // Of what is no engine, such as a proxy on the way, `info` tells nothing and is content; this fails.
  if (arch === '') await ask(asked, [...argv, 'version', '--format', '{{.Server.Version}}'])
  const host =
    asked.env['DOCKER_HOST'] ??
    (await ask(asked, [...argv, 'context', 'inspect', '--format', '{{.Endpoints.docker.Host}}']))
  const isElsewhere = asked.place !== '' || !host.startsWith('unix://')
  // Its root is the caller's root, or the caller himself: else what it writes is not the caller's.
  const isRemapped = security.includes('name=userns')
  const isMine = !isRemapped && isRoot() !== security.includes('name=rootless')
  return {
    name: 'docker',
    argv,
    env: asked.env,
    place: asked.place,
    arch: ARCH_OF[arch],
    isApart: isElsewhere || !isMine,
  }
}

async function openPodman(asked: Asked, argv: readonly string[], settings: EngineSettings): Promise<Engine> {
  const format = '{{.Host.Arch}} {{.Host.ServiceIsRemote}}'
  const isAsked = asked.place !== '' || asked.env['CONTAINER_HOST'] !== undefined
  if (isAsked && settings.DOCKER_RUNTIME !== '') {
    throw new BuildError(
      'E_CONFIG',
      `DOCKER_RUNTIME=${settings.DOCKER_RUNTIME}: podman on another machine chooses its runtime itself`,
      { hint: 'leave DOCKER_RUNTIME out, and set runtime= in containers.conf there' },
    )
  }
  const runtime = settings.DOCKER_RUNTIME === '' ? [] : ['--runtime', settings.DOCKER_RUNTIME]
  const prefix = [...argv, ...runtime]
  const [arch = '', isRemote] = parts(await ask(asked, [...prefix, 'info', '--format', format]))
  return {
    name: 'podman',
    argv: prefix,
    env: asked.env,
    place: asked.place,
    arch: ARCH_OF[arch],
    isApart: isAsked || isRemote === 'true',
  }
}

/** The first word, and all that follows. */
function parts(text: string): string[] {
  const space = text.indexOf(' ')
  return space < 0 ? [text] : [text.slice(0, space), text.slice(space + 1).trim()]
}

/** Who is asked, and which setting is to be told of when there is no answer. */
interface Asked {
  readonly setting: string
  readonly name: EngineName
  readonly place: string
  readonly env: Engine['env']
}

async function ask({ setting, name, place, env }: Asked, argv: readonly string[]): Promise<string> {
  try {
    return await capture(argv, { env, timeoutMs: ANSWER_MS })
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
    const start =
      name === 'docker'
        ? 'sudo systemctl start docker    and be in the group docker, or set DOCKER_HOST'
        : 'podman info    tells what is wrong with it'
    throw new BuildError('E_CONFIG', `${setting}=yes: ${name} does not answer${at(place)}`, {
      because: error.because,
      hint: place === '' ? start : `start the engine that BUILDER names, or correct BUILDER`,
      cause: error,
    })
  }
}

/** Where an engine is, for a message. */
export function at(place: string): string {
  return place === '' ? '' : ` at ${place}`
}

/**
 * Why a container or the connection to it ended early: the error to show.
 *
 * @param container its name
 */
export async function endedEarly(engine: Engine, container: string): Promise<BuildError> {
  const asked = [...engine.argv, 'ps', '--all', '--quiet', '--filter', `name=${container}`]
  try {
    await capture(asked, { env: engine.env, timeoutMs: ANSWER_MS })
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
    return new BuildError('E_COMMAND', `${engine.name}${at(engine.place)} went away while the step ran`, {
      because: error.because,
      hint: 'start the engine, then run the same command again',
      cause: error,
    })
  }
  return new BuildError('E_COMMAND', 'the container of the step was killed', {
    hint: 'run the same command again; when it happens again, the machine may lack memory',
  })
}
