// SPDX-License-Identifier: Apache-2.0
import type { Repository } from './index.ts'

/** A word of REPO_EXTRA: `URL`, or `@tag=URL`; undefined when it is neither. */
export function parseExtra(word: string): Repository | undefined {
  const match = /^(?:@([A-Za-z0-9_.-]+)=)?(https?:\/\/[^\s@]+?)\/*$/.exec(word)
  if (match === null) return undefined
  const [, tag, url = ''] = match
  return { url, ...(tag === undefined ? {} : { tag }) }
}

/** A line of apk's own list of repositories. Source: apk-repositories(5) */
export function repositoryLine({ url, tag }: Repository): string {
  return tag === undefined ? url : `@${tag} ${url}`
}
