// SPDX-License-Identifier: Apache-2.0
import { STAGES, bytesOf, evict, listCache } from './cache.ts'
import type { CacheEntry } from './cache.ts'
import { withLock } from './lock.ts'
import { bytes, report } from './log.ts'
import { readSettings } from './settings.ts'
import { runStep } from './step.ts'
import type { StepArguments } from './step.ts'
import { openWorkspace } from './workspace.ts'

const USAGE = `
Remove the least recently used entries of the cache, until KEEP of it is left.

  cache-clean.js [-n]

  -n  remove nothing; show stages, sizes and ages
  -h  show this help
`

await runStep({ name: 'cache', usage: USAGE, switches: ['n'], needsOwners: true, main })

async function main(given: StepArguments): Promise<void> {
  const settings = readSettings()
  const workspace = openWorkspace(settings)
  const { cacheDir } = workspace
  if (given.has('n')) {
    show(listCache(cacheDir), cacheDir)
    return
  }
  // A build holds the cache for as long as it reads from it.
  const [removed, left] = await withLock(workspace, cacheDir, 'exclusive', () => {
    const entries = listCache(cacheDir)
    const gone = evict(entries, bytesOf(settings.KEEP))
    return Promise.resolve([gone, entries.filter((entry) => !gone.includes(entry))])
  })
  report(
    'CACHE',
    `${String(removed.length)} entries removed`,
    sum(removed),
    `${sum(left)} kept in ${cacheDir}`,
  )
}

function show(entries: readonly CacheEntry[], cacheDir: string): void {
  for (const stage of STAGES) {
    const own = entries.filter((entry) => entry.stage === stage)
    if (own.length === 0) continue
    const count = `${String(own.length)} ${own.length === 1 ? 'entry' : 'entries'}`
    report('CACHE', stage.padEnd(12), count.padEnd(10), sum(own).padStart(10), `used ${ages(own)}`)
  }
  report('CACHE', 'in all'.padEnd(12), ''.padEnd(10), sum(entries).padStart(10), cacheDir)
}

function sum(entries: readonly CacheEntry[]): string {
  return bytes(entries.reduce((total, { sizeBytes }) => total + sizeBytes, 0))
}

function ages(entries: readonly CacheEntry[]): string {
  const [youngest, oldest] = [entries[0], entries.at(-1)].map((entry) => age(entry?.usedMs ?? 0))
  return youngest === oldest ? `${youngest ?? ''} ago` : `${youngest ?? ''} to ${oldest ?? ''} ago`
}

function age(ms: number): string {
  const minutes = Math.round((Date.now() - ms) / 60_000)
  if (minutes < 120) return `${String(minutes)} min`
  return minutes < 48 * 60
    ? `${String(Math.round(minutes / 60))} h`
    : `${String(Math.round(minutes / 1440))} days`
}
