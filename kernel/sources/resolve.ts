// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'

import type { Settings } from '../../scripts/settings.ts'
import { distroSource } from './distro.ts'
import { gitSource } from './git.ts'
import { kernelOrgSource } from './kernel-org.ts'
import { localSource } from './local.ts'
import { lockedSource } from './locked.ts'
import type { ResolvedSource, SourceRequest } from './source.ts'

/** The sources that KERNEL_SOURCE and its companions name: those of the lock when there is one. */
export async function resolveSource(request: SourceRequest): Promise<ResolvedSource> {
  const locked = lockedSource(request)
  if (locked !== undefined) return locked
  switch (request.settings.KERNEL_SOURCE) {
    case 'distro':
      return distroSource(request)
    case 'kernel.org':
      return kernelOrgSource(request)
    case 'git':
      return gitSource(request)
    case 'local':
      return localSource(request)
  }
}

/** What KERNEL_SOURCE needs beside it. */
export function checkSourceSettings(settings: Settings): string[] {
  const problems: string[] = []
  const { KERNEL_SOURCE: source, KERNEL_TREE: tree, KERNEL_PATCHES: patches } = settings
  if (source === 'git' && settings.KERNEL_REPO === '')
    problems.push('KERNEL_REPO=: KERNEL_SOURCE=git needs the URL of a repository')
  if (source === 'git' && settings.KERNEL_TAG === '')
    problems.push('KERNEL_TAG=: KERNEL_SOURCE=git needs a tag, branch or commit')
  if (source === 'local' && tree === '')
    problems.push('KERNEL_TREE=: KERNEL_SOURCE=local needs a folder or tarball with sources')
  if (source === 'local' && tree !== '' && !existsSync(tree))
    problems.push(`KERNEL_TREE=${tree}: no such file`)
  if (source !== 'local' && tree !== '')
    problems.push(`KERNEL_TREE=${tree}: is read with KERNEL_SOURCE=local only`)
  if (patches !== '' && !existsSync(patches)) problems.push(`KERNEL_PATCHES=${patches}: no such folder`)
  return problems
}
