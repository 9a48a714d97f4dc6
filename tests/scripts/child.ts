// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

import { BUILD_ROOT } from '../../scripts/paths.ts'

export interface Ended {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Address of a compiled module, for a script that a child process runs. */
export function moduleUrl(path: string): string {
  return pathToFileURL(join(BUILD_ROOT, path)).href
}

/** Run a program of Node.js in its own process, without colours. */
export function runNode(args: readonly string[], env: NodeJS.ProcessEnv = {}): Ended {
  return spawnSync(process.execPath, [...args], {
    encoding: 'utf8',
    env: { ...process.env, FORCE_COLOR: '0', ...env },
    timeout: 10_000,
  })
}

/** Run a text as a module. */
export function runScript(script: string, env: NodeJS.ProcessEnv = {}): Ended {
  return runNode(['--input-type=module', '-e', script], env)
}
