// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { fileEntry } from '../scripts/additions.ts'
import { compareFolders } from './compare-outputs.ts'
import { explainTrees } from './explain.ts'
import type { Difference, Surroundings } from './explain.ts'
import { explainKernels } from './explain-kernel.ts'
import { listContent } from './listing.ts'
import { otherFiles, textOf } from './outputs.ts'
import type { Output } from './outputs.ts'

/**
 * Compare the files that two kernels are published as, and the folders of their modules.
 *
 * @param idShift added to every owner in the second one's folders
 */
export async function compareKernels(
  first: Output,
  second: Output,
  idShift: number,
  around: Surroundings,
): Promise<Difference[]> {
  const [a, b] = [filesOf(first), filesOf(second)]
  const both = [...a].flatMap(([path, content]) => {
    const other = b.get(path)
    return other === undefined ? [] : [{ path, first: content, second: other }]
  })
  const modules = [...new Set([...modulesOf(first), ...modulesOf(second)])]
  const inModules: Difference[] = []
  for (const name of modules) {
    const [one, other] = [first, second].map(({ path }) => join(dirname(path), name)) as [string, string]
    // Which of them has modules the configuration tells, and its difference is told.
    if (!existsSync(one) || !existsSync(other)) continue
    const found = await compareFolders(one, other, idShift, around)
    inModules.push(...found.map((difference) => ({ ...difference, path: join(name, difference.path) })))
  }
  return [...missing(a, b, around), ...explainKernels(both, around), ...inModules]
}

/** Files that only one of the two has. */
function missing(
  first: ReadonlyMap<string, Buffer>,
  second: ReadonlyMap<string, Buffer>,
  around: Surroundings,
): Difference[] {
  const list = (own: ReadonlyMap<string, Buffer>, other: ReadonlyMap<string, Buffer>) =>
    listContent(
      [...own].filter(([path]) => !other.has(path)).map(([path, content]) => fileEntry(path, content, 0)),
    )
  return explainTrees(list(first, second), list(second, first), around, () => [undefined, undefined])
}

function filesOf(output: Output): ReadonlyMap<string, Buffer> {
  const files = [...otherFiles(output).sort(byMaking), output.path].filter((file) => existsSync(file))
  return new Map(files.map((file) => [basename(file), readFileSync(file)]))
}

/** In the order they are made in: what differs first is nearest to the cause. */
function byMaking(a: string, b: string): number {
  const rank = (file: string): number =>
    ['config-', 'vmlinux', 'System.map-'].findIndex((start) => basename(file).startsWith(start))
  return rank(a) - rank(b)
}

function modulesOf({ manifest }: Output): string[] {
  const names = manifest.result['files']
  return (Array.isArray(names) ? names : []).map(textOf).filter((name) => name.startsWith('modules-'))
}
