// SPDX-License-Identifier: Apache-2.0
import { basename, dirname, join } from 'node:path'
import { existsSync, readFileSync } from 'node:fs'

import { fileEntry } from '../scripts/additions.ts'
import type { TreeEntry } from '../scripts/tree.ts'
import { explainTrees } from './explain.ts'
import type { Difference, Surroundings } from './explain.ts'
import { listContent } from './listing.ts'
import { otherFiles } from './outputs.ts'
import type { Output } from './outputs.ts'

/** Compare the files that two kernels are published as. */
export function compareKernels(first: Output, second: Output, around: Surroundings): Difference[] {
  const [a, b] = [filesOf(first), filesOf(second)]
  return explainTrees(
    listContent(a),
    listContent(b),
    around,
    (path) =>
      [first, second].map((output) => {
        const file = join(dirname(output.path), path)
        return existsSync(file) ? readFileSync(file) : undefined
      }) as [Buffer | undefined, Buffer | undefined],
  )
}

function filesOf(output: Output): TreeEntry[] {
  return [output.path, ...otherFiles(output)].map((file) => fileEntry(basename(file), readFileSync(file), 0))
}
