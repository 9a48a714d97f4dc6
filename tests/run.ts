// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, relative } from 'node:path'

import { Parser } from 'tap-parser'
import type { FinalResults, Result } from 'tap-parser'

const TESTS = import.meta.dirname

/** Builds wait for disks, engines and guests; two at once take two thirds of the time. */
const BUILDS = Math.min(2, availableParallelism())

interface Suite {
  readonly files: readonly string[]
  /** How many test files run at once. */
  readonly jobs: number
  readonly env?: Readonly<Record<string, string>>
}

/**
 * Files of one lane run one after the other: they share a folder of this checkout. Those that are in no lane
 * share nothing.
 */
const LANES: readonly RegExp[] = [/^system\/(container|remote\.)/, /^system\/(boot|distros|rpm-distros)/]

/** Suites by the name given on the command line; who compiles a kernel takes the machine for itself. */
function suiteOf(name: string): Suite {
  const all = readdirSync(TESTS, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.test.js'),
  )
  const system = (file: string): string[] => [join('system', file)]
  switch (name) {
    case 'unit':
      return { files: all.filter((file) => !file.startsWith('system/')).sort(), jobs: availableParallelism() }
    case 'build':
      return { files: all.filter((file) => /^system\/(?!kernel|long)/.test(file)).sort(), jobs: BUILDS }
    case 'kernel':
      return { files: system('kernel.test.js'), jobs: 1 }
    case 'boot':
      return { files: system('boot.test.js'), jobs: 1 }
    case 'boot-image':
      return { files: system('boot.test.js'), jobs: 1, env: { BOOT_ONLY: 'image' } }
    case 'boot-initrd':
      return { files: system('boot.test.js'), jobs: 1, env: { BOOT_ONLY: 'initrd' } }
    case 'long':
      return { files: all.filter((file) => file.startsWith('system/long')).sort(), jobs: 1 }
    default:
      throw new Error(
        `unknown suite ${name}: expected unit, build, boot, boot-image, boot-initrd, kernel or long`,
      )
  }
}

interface Outcome {
  readonly passed: number
  readonly failed: number
}

/** Run one test file and print what failed in it. */
async function runFile(file: string, env: Suite['env']): Promise<Outcome> {
  const startMs = Date.now()
  const child = spawn(process.execPath, [join(TESTS, file)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  const parser = new Parser()
  const failures: string[] = []
  watchFailures(parser, [], failures)
  const results = new Promise<FinalResults>((resolve) => parser.on('complete', resolve))
  child.stdout.pipe(parser)
  const status = await new Promise<number>((resolve) => child.on('close', (code) => resolve(code ?? 1)))
  const { count, pass, fail } = await results
  // A file that ends badly or tests nothing has failed, whatever it counted.
  const broken = (status !== 0 && fail === 0) || count === 0 ? 1 : 0
  const verb = fail + broken === 0 ? 'PASS' : 'FAIL'
  const time = `${((Date.now() - startMs) / 1000).toFixed(1)} s`
  process.stdout.write(`  ${verb.padEnd(7)} ${relative('.', file)}   ${String(pass)} tests   ${time}\n`)
  for (const failure of failures) process.stdout.write(`${failure}\n`)
  if (broken > 0 || failures.length > 0) process.stdout.write(said.split('\n').slice(-30).join('\n'))
  return { passed: pass, failed: fail + broken }
}

/** Collect failed assertions at every depth, with the names of the tests around them. */
function watchFailures(parser: Parser, names: readonly string[], failures: string[]): void {
  parser.on('assert', (result: Result) => {
    if (result.ok) return
    const detail = result.diag as
      { diff?: string; found?: unknown; error?: unknown; stack?: string } | undefined
    const text = detail?.diff ?? JSON.stringify(detail ?? {}, null, 1)
    failures.push(`          not ok: ${[...names, result.name].join(' > ')}\n${text.slice(0, 3000)}`)
  })
  parser.on('child', (child: Parser) => {
    watchFailures(child, [...names, child.name], failures)
  })
}

async function runSuite({ files, jobs, env }: Suite): Promise<Outcome> {
  const waiting = [...files]
  const running = new Map<string, Promise<Outcome>>()
  let total: Outcome = { passed: 0, failed: 0 }
  while (waiting.length + running.size > 0) {
    const busy = new Set([...running.keys()].map(laneOf))
    const next = waiting.find((file) => laneOf(file) === undefined || !busy.has(laneOf(file)))
    if (next !== undefined && running.size < jobs) {
      waiting.splice(waiting.indexOf(next), 1)
      running.set(next, runFile(next, env))
      continue
    }
    const [file, outcome] = await Promise.race(
      [...running].map(async ([name, done]) => [name, await done] as const),
    )
    running.delete(file)
    total = { passed: total.passed + outcome.passed, failed: total.failed + outcome.failed }
  }
  return total
}

function laneOf(file: string): RegExp | undefined {
  return LANES.find((lane) => lane.test(file))
}

let passed = 0
let failed = 0
for (const name of process.argv.slice(2)) {
  const outcome = await runSuite(suiteOf(name))
  passed += outcome.passed
  failed += outcome.failed
}
process.stdout.write(`\n${String(passed)} passed, ${String(failed)} failed\n`)
process.exitCode = failed === 0 && passed > 0 ? 0 : 1
