// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { capture, findTool } from './run.ts'
import { writeWhole } from './temporary.ts'

/** Questions under way, by the file that will remember the answer and its name there. */
const underWay = new Map<string, Promise<string>>()

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
  const remembered = readVersions(file)[key]
  if (remembered !== undefined) return remembered
  const asked = underWay.get(`${file}:${key}`) ?? ask(tool, flag)
  underWay.set(`${file}:${key}`, asked)
  const version = await asked
  mkdirSync(cacheDir, { recursive: true })
  // Another tool may have answered meanwhile.
  writeWhole(file, `${JSON.stringify({ ...readVersions(file), [key]: version }, null, 2)}\n`)
  return version
}

async function ask(tool: string, flag: string): Promise<string> {
  // dracut tells its version and fails.
  return (await capture([tool, flag], { acceptFailure: true })).split('\n')[0] ?? ''
}

function readVersions(file: string): Readonly<Record<string, string>> {
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>) : {}
}
