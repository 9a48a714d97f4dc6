// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { getPriority } from 'node:os'
import { join } from 'node:path'

import fc from 'fast-check'
import t from 'tap'

import { BuildError } from '../../scripts/errors.ts'
import { lastLines, quote } from '../../scripts/command-error.ts'
import { capture, findTool, requireTools, run, startBackground } from '../../scripts/run.ts'
import { moduleUrl } from './child.ts'

/** The error a command must end with. */
async function failureOf(running: Promise<unknown>): Promise<BuildError> {
  try {
    await running
  } catch (error) {
    if (error instanceof BuildError) return error
    throw error
  }
  throw new Error('the command did not fail')
}

t.test('every missing tool is named, one with the package that has it', async (t) => {
  const path = process.env['PATH']
  t.teardown(() => {
    process.env['PATH'] = path
  })
  try {
    requireTools(['sh', 'no-such-tool', '/no/such/aarch64.a'])
    t.fail('nothing was thrown')
  } catch (error) {
    t.match(error, { code: 'E_TOOL_MISSING', message: /no-such-tool, \/no\/such\/aarch64\.a$/ })
    t.strictSame((error as BuildError).because[0], 'no-such-tool: not found in PATH')
  }
  const { packageHint } = await import('../../scripts/host-tools.ts')
  t.match(packageHint('getfattr'), /^getfattr: package attr \(/)
})

t.test('a command that does not exist is refused before anything is started', async (t) => {
  const logFile = join(t.testdir(), 'log')
  t.match(await failureOf(run(['no-such-tool'], { logFile })), { code: 'E_TOOL_MISSING' })
  t.notOk(existsSync(logFile))
  t.equal(findTool('/no/such/tool'), undefined)
  t.equal(findTool('/bin/sh'), '/bin/sh')
})

t.test('a failing command shows itself, its last lines and where all of them are', async (t) => {
  const logFile = join(t.testdir(), 'log')
  const error = await failureOf(run(['sh', '-c', 'seq 100; echo why >&2; exit 3'], { logFile }))
  t.match(error, { code: 'E_COMMAND', message: 'sh failed with status 3' })
  t.equal(error.because[0], `command: sh -c 'seq 100; echo why >&2; exit 3'`)
  t.strictSame(error.because.slice(-3), ['100', 'why', `full log: ${logFile}`])
  t.equal(error.because.length, 14)
  t.match(readFileSync(logFile, 'utf8'), /^\+ sh -c .*\n1\n2\n/)
})

t.test('a captured command that fails shows what it said', async (t) => {
  const error = await failureOf(capture(['sh', '-c', 'echo why >&2; exit 3']))
  t.match(error, { code: 'E_COMMAND', because: [/^command: sh/, 'why'] })
  t.equal(await capture(['sh', '-c', 'echo said; exit 3'], { acceptFailure: true }), 'said')
})

t.test('a command that was killed or took too long says so', async (t) => {
  t.match(await failureOf(capture(['sh', '-c', 'kill -9 $$'])), { message: 'sh was ended by SIGKILL' })
  t.match(await failureOf(capture(['sleep', '9'], { timeoutMs: 50 })), {
    message: 'sleep took too long and was stopped',
  })
})

t.test('a full disk is told as one, whoever noticed it', async (t) => {
  const logFile = join(t.testdir(), 'log')
  const script = 'echo tar: x: No space left on device >&2; exit 2'
  t.match(await failureOf(run(['sh', '-c', script], { logFile })), {
    code: 'E_FULL',
    exitStatus: 73,
    message: /tar: x/,
  })
  t.match(await failureOf(capture(['sh', '-c', script])), { code: 'E_FULL' })
  t.match(await failureOf(run(['seq', '100000'], { logFile, stdoutFile: '/dev/full' })), {
    code: 'E_FULL',
    message: /no space left: for what seq says or writes/,
  })
})

t.test('what an earlier command said in the same log is not the reason of this one', async (t) => {
  const logFile = join(t.testdir(), 'log')
  await run(['sh', '-c', 'echo cache: No space left on device >&2'], { logFile })
  t.match(await failureOf(run(['false'], { logFile })), { code: 'E_COMMAND' })
})

t.test('a tool gets a fixed environment, proxies, and what is added', async (t) => {
  process.env['OSBUILDER_TEST_SECRET'] = 'x'
  process.env['LANG'] = 'de_DE.UTF-8'
  t.teardown(() => {
    delete process.env['OSBUILDER_TEST_SECRET']
    delete process.env['LANG']
  })
  const lines = (await capture(['env'], { env: { ADDED: 'y', ABSENT: undefined } })).split('\n')
  for (const line of ['LC_ALL=C.UTF-8', 'TZ=UTC', 'ADDED=y']) t.ok(lines.includes(line), line)
  for (const name of ['OSBUILDER_TEST_SECRET', 'LANG', 'ABSENT', 'NODE_OPTIONS']) {
    t.notOk(
      lines.some((line) => line.startsWith(`${name}=`)),
      name,
    )
  }
})

t.test('a quoted command line is read back by a shell as the same words', async (t) => {
  t.equal(
    quote(['a', '--b=c/d', 'two words', '', "it's", '~', '*', '$x']),
    `a --b=c/d 'two words' '' 'it'\\''s' '~' '*' '$x'`,
  )
  const words = fc.array(fc.string({ unit: fc.constantFrom(...` '"\\$\`*~#;&|<>()!aé=-`) }), {
    minLength: 1,
  })
  fc.assert(
    fc.property(words, (list) => {
      const script = `printf '%s\\0' ${quote(list)}`
      return (
        execFileSync('sh', ['-c', script], { encoding: 'utf8' }) === list.map((word) => `${word}\0`).join('')
      )
    }),
    { numRuns: 25 },
  )
})

t.test('the last lines are those that say something', async (t) => {
  t.strictSame(lastLines('a\r\nb\rc\n\n  \nd\n', 3), ['b', 'c', 'd'])
  t.strictSame(lastLines(''), [])
})

t.test('a tool in the background tells its status, and that it was killed', async (t) => {
  const logFile = join(t.testdir(), 'log')
  t.equal(await (await startBackground(['sh', '-c', 'exit 4'], { logFile })).exit, 4)
  const sleeping = await startBackground(['sleep', '20'], { logFile })
  sleeping.kill()
  t.equal(await sleeping.exit, 1)
})

t.test('what runs beside has a tenth of the processors, and fails by its own name', async (t) => {
  t.equal(await capture(['nice'], { isBeside: true }), String(Math.min(19, getPriority() + 10)))
  const error = await failureOf(capture(['sh', '-c', 'echo why >&2; exit 3'], { isBeside: true }))
  t.match(error, { message: 'sh failed with status 3', because: [/^command: sh -c/, 'why'] })
  t.match(await failureOf(capture(['no-such-tool'], { isBeside: true })), { code: 'E_TOOL_MISSING' })
})

/** True while a process with this text among its arguments runs. */
function isRunning(text: string): boolean {
  return readdirSync('/proc').some((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text)
    } catch {
      return false
    }
  })
}

t.test('what runs beside ends with its whole family when this process is killed', async (t) => {
  // No other process has these words, and the parent has them not among its arguments.
  const mark = `77777.${String(process.pid)}`
  const script = `
    import { capture } from '${moduleUrl('scripts/run.js')}'
    const mark = process.env.MARK
    await capture(['sh', '-c', 'sleep "$1" & sleep "$1"; exit', 'sh', mark], { isBeside: true })`
  const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
    env: { ...process.env, MARK: mark },
    stdio: 'ignore',
  })
  while (!isRunning(`sleep\0${mark}`)) await new Promise((resolve) => setTimeout(resolve, 20))
  const over = once(parent, 'close')
  parent.kill('SIGKILL')
  await over
  for (let round = 0; round < 100 && isRunning(mark); round += 1) {
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  t.notOk(isRunning(mark))
})
