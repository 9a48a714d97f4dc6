// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { sha256 } from '../digest.ts'
import { BuildError } from '../errors.ts'
import { HOST_TOOLS } from '../host-tools.ts'
import type { ToolTarget } from '../host-tools.ts'
import { report, seconds } from '../log.ts'
import { capture, run } from '../run.ts'
import type { Settings } from '../settings.ts'
import { discard, temporaryFor } from '../temporary.ts'
import type { Workspace } from '../workspace.ts'
import { baseReference } from './bases.ts'
import type { Engine } from './engine.ts'

const NAME = 'osbuilder-builder'

/** What a builder image is made of: the base, and the packages of Debian that have the tools of a step. */
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
    '',
  ].join('\n')
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
  settings: Pick<Settings, 'BUILDER_BASE' | 'IMAGE_REGISTRY' | 'DEBUG'>,
  workspace: Workspace,
  targets: readonly ToolTarget[],
): Promise<string> {
  const base = settings.BUILDER_BASE || baseReference(settings.IMAGE_REGISTRY)
  const text = containerfile(base, targets)
  const name = `${NAME}:${sha256(text).slice(0, 16)}`
  if (await hasImage(engine, name)) return name
  const startMs = Date.now()
  const logFile = join(workspace.logDir, 'builder-image.log')
  writeFileSync(logFile, '')
  report('BUILDER', name, `from ${base}, log in ${logFile}`)
  const context = temporaryFor(join(workspace.workDir, 'builder'))
  const unfinished = `${NAME}:unfinished-${String(process.pid)}`
  try {
    mkdirSync(context)
    const file = join(context, 'Containerfile')
    writeFileSync(file, text)
    const options = { logFile, env: engine.env, verbose: settings.DEBUG }
    await run(
      [
        ...engine.argv,
        ...['build', '--network', 'host', '--file', file, '--tag', unfinished],
        ...proxyArguments(engine),
        context,
      ],
      options,
    )
    await run([...engine.argv, 'tag', unfinished, name], options)
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
    throw new BuildError('E_COMMAND', `${engine.name} cannot make the builder image`, {
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

function proxyArguments(engine: Engine): string[] {
  const names = ['http_proxy', 'https_proxy', 'no_proxy'].filter((name) => engine.env[name] !== undefined)
  return names.flatMap((name) => ['--build-arg', `${name}=${String(engine.env[name])}`])
}
