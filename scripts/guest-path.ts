// SPDX-License-Identifier: Apache-2.0

/** As many links as the kernel follows in one path. Source: linux/namei.h, MAXSYMLINKS. */
const MAX_SYMLINKS = 40

/**
 * The path below a guest's root that a path leads to, its links followed as the guest would: an absolute
 * link starts at the root and `..` stops there. Undefined on a loop of links.
 *
 * @param linkAt target of the link at a path below the root; undefined where none is to be followed
 */
export function followPath(
  path: string,
  linkAt: (path: string, isLast: boolean) => string | undefined,
): string | undefined {
  let pending = partsOf(path)
  const walked: string[] = []
  for (let links = 0; pending.length > 0;) {
    const [part = '', ...rest] = pending
    pending = rest
    if (part === '..') {
      walked.pop()
      continue
    }
    const target = linkAt([...walked, part].join('/'), pending.length === 0)
    if (target === undefined) {
      walked.push(part)
      continue
    }
    links += 1
    if (links > MAX_SYMLINKS) return undefined
    if (target.startsWith('/')) walked.length = 0
    pending = [...partsOf(target), ...pending]
  }
  return walked.join('/')
}

function partsOf(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.')
}
