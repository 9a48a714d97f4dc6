// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { report, seconds } from '../scripts/log.ts'
import { run } from '../scripts/run.ts'
import { withTemporary } from '../scripts/temporary.ts'
import { compareBytes } from '../scripts/tree.ts'
import type { KernelPlan } from './plan.ts'

/** Tells which sources the objects were compiled from. */
const MARK = '.osbuilder-tree'

/** Tells how many files a build compiled, and so that it came to its end. */
export const COUNTED = '.osbuilder-files'

/**
 * Make sure that a folder of objects is there and of these sources.
 *
 * Objects of other sources would be taken for current ones, because their files are newer: they are
 * removed. A new folder begins as a copy of the objects of another variant of the same sources and
 * architecture; the kernel's make knows by symbol what each was compiled with, so only what the
 * variants differ in is compiled.
 */
export async function claimObjects(objects: string, key: string, plan: KernelPlan): Promise<void> {
  if (existsSync(objects) && !isOf(objects, key)) rmSync(objects, { recursive: true })
  if (!existsSync(objects)) await beginWith(nearest(objects, key, plan), objects, plan.logFile)
  mkdirSync(objects, { recursive: true })
  writeFileSync(join(objects, MARK), key)
}

function isOf(objects: string, key: string): boolean {
  const mark = join(objects, MARK)
  return existsSync(mark) && readFileSync(mark, 'utf8') === key
}

/** The complete objects of these sources whose variants differ least from those asked for. */
function nearest(objects: string, key: string, { arch, variants }: KernelPlan): string | undefined {
  const parent = dirname(objects)
  if (!existsSync(parent)) return undefined
  const candidates = readdirSync(parent)
    .sort(compareBytes)
    .map((name) => ({ folder: join(parent, name), variants: variantsIn(name, arch) }))
    .filter(({ folder }) => isOf(folder, key) && existsSync(join(folder, COUNTED)))
    .map(({ folder, variants: others }) => ({ folder, distance: distance(variants, others) }))
    .filter(({ distance: apart }) => apart !== undefined)
  return candidates.sort((a, b) => (a.distance ?? 0) - (b.distance ?? 0))[0]?.folder
}

/** Variants in the name of a folder; undefined when it is for another architecture. */
export function variantsIn(name: string, arch: string): readonly string[] | undefined {
  const [first = '', ...variants] = name.split('-')
  return first === arch ? variants : undefined
}

/** How many variants only one of the two has. */
export function distance(
  wanted: readonly string[],
  others: readonly string[] | undefined,
): number | undefined {
  if (others === undefined) return undefined
  const both = new Set([...wanted, ...others])
  return [...both].filter((name) => wanted.includes(name) !== others.includes(name)).length
}

async function beginWith(other: string | undefined, objects: string, logFile: string): Promise<void> {
  if (other === undefined) return
  const startMs = Date.now()
  await withTemporary(objects, async (temporary) => {
    // Times are what the kernel's make goes by.
    await run(['cp', '--archive', '--reflink=auto', other, temporary], { logFile })
    moveCommands(join(temporary, 'tools'), other, objects)
  })
  report(
    'OBJECTS',
    `${basename(objects)} begin as those of ${basename(other)}`,
    seconds(Date.now() - startMs),
  )
}

/**
 * Name the new folder in the commands that tools of the kernel build were compiled with.
 *
 * Those hold whole paths, where the kernel's own hold none. With the old ones objtool would be compiled
 * again, and then everything that it has worked on. Source: linux/tools/build/Build.include, if_changed
 */
function moveCommands(folder: string, from: string, to: string): void {
  if (!existsSync(folder)) return
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  for (const name of names.filter((path) => path.endsWith('.cmd'))) {
    const file = join(folder, name)
    const text = readFileSync(file, 'utf8')
    const moved = text.replaceAll(`${from}/`, `${to}/`)
    if (moved !== text) writeFileSync(file, moved)
  }
}
