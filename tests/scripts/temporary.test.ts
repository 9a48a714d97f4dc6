// SPDX-License-Identifier: Apache-2.0
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  readdirSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'

import t from 'tap'

import { discard, removeStale, temporaryFor, withTemporary, writeWhole } from '../../scripts/temporary.ts'
import { moduleUrl } from './child.ts'

t.test('only a complete result gets the name', async (t) => {
  const output = join(t.testdir(), 'new/out')
  const result = await withTemporary(output, async (temporary) => {
    t.notOk(existsSync(output))
    writeFileSync(temporary, 'whole')
    t.notOk(existsSync(output))
    return 42
  })
  t.equal(result, 42)
  t.equal(readFileSync(output, 'utf8'), 'whole')
  t.strictSame(readdirSync(join(output, '..')), ['out'])
})

t.test('a make that fails leaves nothing, and the old result as it was', async (t) => {
  const folder = t.testdir({ out: 'old' })
  const making = withTemporary(join(folder, 'out'), async (temporary) => {
    mkdirSync(temporary)
    writeFileSync(join(temporary, 'half'), '')
    throw new Error('no')
  })
  await t.rejects(making, { message: 'no' })
  t.strictSame(readdirSync(folder), ['out'])
  t.equal(readFileSync(join(folder, 'out'), 'utf8'), 'old')
})

function readlinkOr(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}

t.test('a large file that is replaced is given back, by nobody of ours in the end', async (t) => {
  const output = join(t.testdir(), 'image')
  const openIn = (process: string): string[] =>
    readdirSync(`/proc/${process}/fd`)
      .map((name) => readlinkOr(`/proc/${process}/fd/${name}`))
      .filter((file) => file.startsWith(output.slice(0, -'image'.length)))
  for (const letter of ['a', 'b']) {
    await withTemporary(output, (temporary) => {
      writeFileSync(temporary, Buffer.alloc(17 * 1024 * 1024, letter))
      return Promise.resolve()
    })
    t.equal(readFileSync(output).subarray(0, 1).toString(), letter)
    t.strictSame(openIn('self'), [], 'no file stays open here')
  }
  const children = readFileSync(`/proc/self/task/${String(process.pid)}/children`, 'utf8')
    .trim()
    .split(' ')
  t.match(children.flatMap(openIn), [/image \(deleted\)$/], 'the program that has it waits for our end')
  t.strictSame(readdirSync(join(output, '..')), ['image'])
})

t.test('a folder replaces a folder whole', async (t) => {
  const folder = t.testdir({ out: { old: '' } })
  await withTemporary(join(folder, 'out'), async (temporary) => {
    mkdirSync(temporary)
    writeFileSync(join(temporary, 'new'), '')
  })
  t.strictSame(readdirSync(join(folder, 'out')), ['new'])
  t.strictSame(readdirSync(folder), ['out'])
})

t.test('what dead processes left is removed, what living ones work on is kept', async (t) => {
  const folder = t.testdir({ mine: '', '.tmp-1-1': '', '.x.tmp': '' })
  const dead = spawnSync('true').pid
  const living = temporaryFor(join(folder, 'living'))
  t.teardown(() => {
    discard(living)
  })
  writeFileSync(living, '')
  const stale = [`.out.tmp-${String(dead)}-123`, `.out.old.tmp-${String(dead)}-123`]
  for (const name of stale) mkdirSync(join(folder, name, 'inside'), { recursive: true })
  // The same pid at another start time is another process.
  const reused = `.out.tmp-${String(process.pid)}-1`
  writeFileSync(join(folder, reused), '')
  removeStale(folder)
  t.strictSame(readdirSync(folder).sort(), ['.tmp-1-1', '.x.tmp', basename(living), 'mine'].sort())
  removeStale(join(folder, 'not-there'))
})

t.test('what a killed process left is removed, and not before it is dead', async (t) => {
  const folder = t.testdir()
  const script = `
    import { writeFileSync } from 'node:fs'
    import { temporaryFor } from '${moduleUrl('scripts/temporary.js')}'
    writeFileSync(temporaryFor('${join(folder, 'out')}'), 'half')
    console.log('ready')
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  removeStale(folder)
  t.equal(readdirSync(folder).length, 1)
  child.kill('SIGKILL')
  await once(child, 'exit')
  removeStale(folder)
  t.strictSame(readdirSync(folder), [])
})

t.test('what was left beside an output is removed when it is made again, and nothing else', async (t) => {
  const folder = t.testdir({
    '.out.tmp-1-1': 'half',
    '.out.old.tmp-1-1': 'old',
    '.other.tmp-1-1': '',
    out: '',
  })
  await withTemporary(join(folder, 'out'), (temporary) => {
    writeFileSync(temporary, 'whole')
    return Promise.resolve()
  })
  t.strictSame(readdirSync(folder).sort(), ['.other.tmp-1-1', 'out'])
  // As root alone can make it: what another user put there is not removed.
  if (process.getuid?.() !== 0) return
  const left = join(folder, '.out.tmp-1-1')
  writeFileSync(left, 'bait')
  chownSync(left, 65534, 65534)
  await withTemporary(join(folder, 'out'), (temporary) => {
    writeFileSync(temporary, 'whole')
    return Promise.resolve()
  })
  t.ok(existsSync(left))
})

t.test('a process that has ended is gone, also when nobody asked how', async (t) => {
  const folder = t.testdir()
  // The sleep that stays takes the place of the shell, and never asks for its child.
  const parent = spawn('sh', ['-c', 'sleep 0.1 & echo $!; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => parent.kill('SIGKILL'))
  const [told] = (await once(parent.stdout, 'data')) as [Buffer]
  const pid = told.toString().trim()
  const fields = (): string[] => {
    const status = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return status.slice(status.lastIndexOf(')') + 2).split(' ')
  }
  writeFileSync(join(folder, `.out.tmp-${pid}-${String(fields()[19])}`), 'half')
  while (fields()[0] !== 'Z') await new Promise((resolve) => setTimeout(resolve, 10))
  removeStale(folder)
  t.strictSame(readdirSync(folder), [])
})

t.test('a process that is told to end removes what it began and ends by that signal', async (t) => {
  const folder = t.testdir()
  const script = `
    import { mkdirSync } from 'node:fs'
    import { cleanUpOnSignals, temporaryFor } from '${moduleUrl('scripts/temporary.js')}'
    cleanUpOnSignals()
    mkdirSync(temporaryFor('${join(folder, 'out')}'))
    console.log('ready')
    setInterval(() => {}, 1000)`
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(child.stdout, 'data')
    child.kill(signal)
    t.strictSame(await once(child, 'exit'), [null, signal])
    t.strictSame(readdirSync(folder), [])
  }
})

t.test('a small file is replaced in one move, also where it is a link', async (t) => {
  const folder = t.testdir({ target: 'kept', link: t.fixture('symlink', 'target') })
  writeWhole(join(folder, 'link'), 'new')
  t.equal(readFileSync(join(folder, 'link'), 'utf8'), 'new')
  t.equal(readFileSync(join(folder, 'target'), 'utf8'), 'kept')
  t.strictSame(readdirSync(folder).sort(), ['link', 'target'])
})
