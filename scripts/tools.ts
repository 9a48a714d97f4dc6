// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { capture, findTool } from './run.ts'
import { writeWhole } from './temporary.ts'

/**
 * First line of what a host tool says of its version; part of the fingerprint of what it makes.
 *
 * Asked once per installed file and remembered in the cache, because a build that has nothing to do
 * should start nothing. A missing tool answers `missing`, so that the step that needs it tells.
 */
export async function toolVersion(
  tool: string,
  cacheDir: string,
  flag: string = '--version',
): Promise<string> {
  const path = findTool(tool)
  if (path === undefined) return 'missing'
  const file = join(cacheDir, 'tools.json')
  const { size, mtimeMs, ino } = statSync(path)
  const key = [path, size, mtimeMs, ino].join(':')
  const known = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>) : {}
  const remembered = known[key]
  if (remembered !== undefined) return remembered
  // dracut tells its version and fails.
  const version = (await capture([tool, flag], { acceptFailure: true })).split('\n')[0] ?? ''
  mkdirSync(cacheDir, { recursive: true })
  writeWhole(file, `${JSON.stringify({ ...known, [key]: version }, null, 2)}\n`)
  return version
}
