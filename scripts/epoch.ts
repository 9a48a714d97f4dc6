// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { PROJECT_ROOT } from './paths.ts'
import { capture, findTool } from './run.ts'
import type { Settings } from './settings.ts'

/**
 * The one clock of everything made: SOURCE_DATE_EPOCH, else the last commit's, else `fallback`.
 *
 * Unit: seconds since 1970.
 */
export async function epochSeconds(
  settings: Pick<Settings, 'SOURCE_DATE_EPOCH'>,
  fallback: () => number,
): Promise<number> {
  if (settings.SOURCE_DATE_EPOCH !== undefined) return settings.SOURCE_DATE_EPOCH
  // What `make install-scripts` laid down is no checkout, and a checkout around it is another project's.
  if (!existsSync(join(PROJECT_ROOT, '.git')) || findTool('git') === undefined) return fallback()
  const safe = ['-c', `safe.directory=${PROJECT_ROOT}`]
  const answer = await capture(['git', ...safe, '-C', PROJECT_ROOT, 'log', '-1', '--format=%ct'], {
    acceptFailure: true,
  })
  return /^\d+$/.test(answer) ? Number(answer) : fallback()
}
