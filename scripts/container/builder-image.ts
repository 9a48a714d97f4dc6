// SPDX-License-Identifier: Apache-2.0
import { randomUUID } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { sha256, sha256File } from '../digest.ts'
import { elfArch } from '../elf.ts'
import { BuildError } from '../errors.ts'
import { HOST_TOOLS } from '../host-tools.ts'
import type { ToolTarget } from '../host-tools.ts'
import { report, seconds } from '../log.ts'
import { capture, run } from '../run.ts'
import { hostArch } from '../settings.ts'
import type { Settings } from '../settings.ts'
import { discard, temporaryFor } from '../temporary.ts'
import type { Workspace } from '../workspace.ts'
import { baseReference } from './bases.ts'
import { at } from './engine.ts'
import type { Engine } from './engine.ts'
import { ownLimits } from './privileges.ts'

const NAME = 'osbuilder-builder'

/** Where a builder has its Node, which is the caller's: Debian 12 packages one that is too old. */
export const BUILDER_NODE = '/usr/local/bin/node'

/** What a builder image is made of: the base, the packages of Debian that have the tools of a step, and Node. */
export function containerfile(base: string, targets: readonly ToolTarget[]): string {
  const packages = HOST_TOOLS.filter((row) => row.targets.some((target) => targets.includes(target)))
    .map((row) => row.packages.apt)
    .filter((name) => name !== undefined)
  const sorted = [...new Set(packages)].sort()
  return [
    `FROM ${base}`,
    'RUN apt-get update \\',
    ` && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \\`,
    ...sorted.map((name) => `      ${name} \\`),
    ' && rm -rf /var/lib/apt/lists/* /var/cache/apt/*',
    `COPY node ${BUILDER_NODE}`,
    // One that needs libraries of the host fails here, where it can be told.
    'RUN node --version',
    '',
  ].join('\n')
}

/** A Node program for a builder. */
export interface NodeProgram {
  readonly path: string
  /** What tells it from another one, on every machine. */
  readonly identity: string
}

/**
 * The Node that an engine's machine can run: the one of BUILDER_NODE, else our own.
 *
 * @throws BuildError E_CONFIG when it is missing, or is for another architecture
 */
export function nodeFor(
  engine: Pick<Engine, 'arch' | 'name' | 'place'>,
  settings: Pick<Settings, 'BUILDER_NODE'>,
): NodeProgram {
  const given = settings.BUILDER_NODE.replaceAll('{arch}', engine.arch ?? '')
  const path = given || process.execPath
  const arch = existsSync(path) ? elfArch(path) : undefined
  if (arch !== undefined && arch === engine.arch) {
    return { path, identity: given === '' ? `${process.version} ${hostArch()}` : sha256File(path) }
  }
  const machine = engine.arch ?? 'of an architecture that osbuilder does not know'
  throw new BuildError('E_CONFIG', `BUILDER_NODE=${given}: no Node for ${engine.name}${at(engine.place)}`, {
    because: [
      `the engine's machine is ${machine}`,
      `${path} is ${arch === undefined ? 'no program file' : `for ${arch}`}`,
    ],
    hint: 'BUILDER_NODE=/path/{arch}/node    names a Node 20.20 or newer for that machine',
  })
}

/**
 * The builder image of these targets, made when there is none of the same content.
 *
 * Its tag is the digest of what goes into it. It gets its name when it is complete, so builds that run
 * at once never see half of one.
 *
 * @returns name and tag
 */
export async function builderImage(
  engine: Engine,
  settings: Pick<Settings, 'BUILDER_BASE' | 'BUILDER_NODE' | 'IMAGE_REGISTRY' | 'DEBUG'>,
  workspace: Workspace,
  targets: readonly ToolTarget[],
): Promise<string> {
  const base = settings.BUILDER_BASE || baseReference(settings.IMAGE_REGISTRY)
  const node = nodeFor(engine, settings)
  const text = containerfile(base, targets)
  const name = `${NAME}:${sha256(`${text}\n${node.identity}`).slice(0, 16)}`
  if (await hasImage(engine, name)) return name
  const startMs = Date.now()
  const logFile = join(workspace.logDir, 'builder-image.log')
  writeFileSync(logFile, '')
  report('BUILDER', name, `from ${base}, log in ${logFile}`)
  const context = temporaryFor(join(workspace.workDir, 'builder'))
  const unfinished = `${NAME}:unfinished-${randomUUID()}`
  try {
    mkdirSync(context)
    const file = join(context, 'Containerfile')
    writeFileSync(file, text)
    copyFileSync(node.path, join(context, 'node'))
    const options = { logFile, env: engine.env, verbose: settings.DEBUG }
    const limits = engine.name === 'podman' && !engine.isApart ? ownLimits() : []
    const words = ['build', '--network', 'host', ...limits, '--file', file, '--tag', unfinished]
    await run([...engine.argv, ...words, ...proxyArguments(engine), context], options)
    await run([...engine.argv, 'tag', unfinished, name], options)
  } catch (error) {
    if (!(error instanceof BuildError) || error.code === 'E_FULL') throw error
    throw new BuildError('E_COMMAND', `${engine.name}${at(engine.place)} cannot make the builder image`, {
      because: error.because,
      hint: `BUILDER_BASE=image    builds it from another image of Debian than ${base}`,
      cause: error,
    })
  } finally {
    discard(context)
    await capture([...engine.argv, 'rmi', unfinished], { env: engine.env, acceptFailure: true })
  }
  report('BUILDER', name, seconds(Date.now() - startMs))
  return name
}

async function hasImage(engine: Engine, name: string): Promise<boolean> {
  const found = await capture([...engine.argv, 'images', '--quiet', name], { env: engine.env })
  return found !== ''
}

/** By their names alone: a proxy may have a password, which is not for the list of processes. */
function proxyArguments(engine: Engine): string[] {
  const names = ['http_proxy', 'https_proxy', 'no_proxy'].filter((name) => engine.env[name] !== undefined)
  return names.flatMap((name) => ['--build-arg', name])
}
