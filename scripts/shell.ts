// SPDX-License-Identifier: Apache-2.0
import { BuildError } from './errors.ts'
import { fullError, lastLines } from './command-error.ts'
import { toolEnvironment } from './settings.ts'

// Pinned here so that ZX_PREFIX, ZX_SHELL and the like in the caller's environment change nothing.
const CONFIGURATION = {
  prefix: 'set -euo pipefail; ',
  postfix: '',
  shell: '/bin/bash',
  quiet: true,
  nothrow: true,
} as const

/**
 * Run a pipeline of host tools, for the few places where a shell line is the clearest text.
 *
 * Values are quoted by zx. What the last tool writes to stdout must be small: it is kept in memory.
 *
 * @throws BuildError E_COMMAND with what the tools said when one of them fails
 */
export async function shell(
  line: TemplateStringsArray,
  ...values: readonly (string | readonly string[])[]
): Promise<void> {
  // Loaded when a line is run: it takes 50 ms, which most steps need not spend.
  const { $ } = await import('zx')
  const result = await $({ ...CONFIGURATION, env: toolEnvironment() })(line, ...values)
  if (result.exitCode === 0) return
  const full = result.stderr.split('\n').find((text) => text.includes('No space left on device'))
  if (full !== undefined) throw fullError(full)
  throw new BuildError(
    'E_COMMAND',
    `${line.join('…').trim()} failed with status ${String(result.exitCode)}`,
    {
      because: lastLines(result.stderr),
    },
  )
}
