// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../errors.ts'
import { note } from '../log.ts'
import { capture, findTool } from '../run.ts'
import { engineEnvironment } from '../settings.ts'
import type { Settings } from '../settings.ts'

export type EngineName = 'docker' | 'podman'

/** A container engine that answers. */
export interface Engine {
  readonly name: EngineName
  /** Command prefix. */
  readonly argv: readonly string[]
  /** What tells the command where its engine is. */
  readonly env: Readonly<Record<string, string>>
  /** Its containers have a user namespace: their root is not root of the host. */
  readonly isRootless: boolean
}

/** How long an engine may take to answer. Unit: ms. */
const ANSWER_MS = 30_000

/** The engine that the settings ask for. Docker wins, as upstream. */
export function wantedEngine(settings: Pick<Settings, 'USE_DOCKER' | 'USE_PODMAN'>): EngineName | undefined {
  if (settings.USE_DOCKER && settings.USE_PODMAN)
    note('USE_DOCKER and USE_PODMAN are both set: docker is used')
  if (settings.USE_DOCKER) return 'docker'
  return settings.USE_PODMAN ? 'podman' : undefined
}

/**
 * Find the engine, and make sure that it answers and is of the kind its name says.
 *
 * @throws BuildError E_TOOL_MISSING when it is not installed, E_CONFIG when it does not answer
 */
export async function openEngine(
  name: EngineName,
  settings: Pick<Settings, 'DOCKER_RUNTIME'>,
): Promise<Engine> {
  const setting = name === 'docker' ? 'USE_DOCKER' : 'USE_PODMAN'
  if (findTool(name) === undefined) {
    throw new BuildError('E_TOOL_MISSING', `${setting}=yes: ${name} is not installed`, {
      hint: `sudo apt-get install ${name === 'docker' ? 'docker.io' : 'podman'}    or leave ${setting} out to build on this host`,
    })
  }
  const env = engineEnvironment()
  const runtime =
    name === 'podman' && settings.DOCKER_RUNTIME !== '' ? ['--runtime', settings.DOCKER_RUNTIME] : []
  const argv = [name, ...runtime]
  const format = name === 'docker' ? '{{json .SecurityOptions}}' : '{{json .Host.Security}}'
  const kind = await ask([name, '--version'], env, setting)
  // podman-docker installs podman under docker's name; its flags and its files are podman's.
  if (name === 'docker' && /podman/i.test(kind)) {
    throw new BuildError('E_CONFIG', 'USE_DOCKER=yes: docker is podman here, under another name', {
      because: [`docker --version: ${kind.split('\n')[0] ?? ''}`],
      hint: 'use USE_PODMAN=yes in its place',
    })
  }
  const security = await ask([...argv, 'info', '--format', format], env, setting)
  return { name, argv, env, isRootless: /"name=rootless"|"rootless":true/.test(security) }
}

async function ask(argv: readonly string[], env: Engine['env'], setting: string): Promise<string> {
  try {
    return await capture(argv, { env, timeoutMs: ANSWER_MS })
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
    const name = argv[0] ?? ''
    throw new BuildError('E_CONFIG', `${setting}=yes: ${name} does not answer`, {
      because: error.because,
      hint:
        name === 'docker'
          ? 'sudo systemctl start docker    and be in the group docker, or set DOCKER_HOST'
          : 'podman info    tells what is wrong with it',
      cause: error,
    })
  }
}
