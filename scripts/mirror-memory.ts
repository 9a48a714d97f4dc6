// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { BuildError } from './errors.ts'
import { warn } from './log.ts'
import { writeWhole } from './temporary.ts'

/** What a mirror said, and when. */
export interface Asked {
  /** Unit: ms. */
  readonly checkedAtMs: number
}

export interface MemoryRequest {
  readonly cacheDir: string
  /** Fingerprint of the question: which repositories, whose keys. */
  readonly key: string
  readonly refresh: 'daily' | 'always' | 'never'
  readonly nowMs: number
}

const DAY_MS = 24 * 60 * 60 * 1000

/**
 * What a mirror said last, while that is fresh enough by REFRESH, else what it says now.
 *
 * A mirror that cannot be reached is warned of, and what it said last is used, except with REFRESH=always.
 *
 * @param ask the question; its answer is remembered
 */
export async function remembered<Answer extends Asked>(
  { cacheDir, key, refresh, nowMs }: MemoryRequest,
  ask: () => Promise<Answer>,
): Promise<Answer> {
  const file = join(cacheDir, 'index', `${key}.json`)
  const known = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Answer) : undefined
  const ageMs = nowMs - (known?.checkedAtMs ?? 0)
  const isFresh = refresh === 'never' || (refresh === 'daily' && ageMs >= 0 && ageMs < DAY_MS)
  if (known !== undefined && isFresh) return known
  try {
    const answer = await ask()
    mkdirSync(join(cacheDir, 'index'), { recursive: true })
    writeWhole(file, `${JSON.stringify(answer, null, 2)}\n`)
    return answer
  } catch (error) {
    const isOffline = error instanceof BuildError && error.code === 'E_NETWORK'
    if (known === undefined || !isOffline || refresh === 'always') throw error
    const day = new Date(known.checkedAtMs).toISOString().slice(0, 10)
    warn(`${error.message}; going on with the index of ${day}`)
    return known
  }
}
