// SPDX-License-Identifier: Apache-2.0
import { existsSync, statSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'

import { BuildError } from '../errors.ts'
import { note } from '../log.ts'
import { BUILD_ROOT, PROJECT_ROOT } from '../paths.ts'
import { connect } from '../pipes.ts'
import type { EndOfPipe } from '../pipes.ts'
import { fullLine, lastLines } from '../command-error.ts'
import { capture, startBackground } from '../run.ts'
import type { Background } from '../run.ts'
import { runtimeFiles } from '../runtime-files.ts'
import { markerOf } from '../workspace.ts'
import type { Workspace } from '../workspace.ts'
import { BUILDER_NODE } from './builder-image.ts'
import { SIGNALS, UNTIL_GONE, removeContainer, startContainer } from './container.ts'
import type { Job } from './container.ts'
import { at, endedEarly } from './engine.ts'
import { isBelow } from './places.ts'
import type { Places } from './places.ts'

/** Volume of the engine that is the cache of all builds there. */
const CACHE_VOLUME = 'osbuilder-cache'

/** What a killed container left half-written in that volume goes after this time. Unit: minutes. */
const STALE_MINUTES = 24 * 60

/** How long an engine may take to start a container, or to end one. Unit: ms. */
const PATIENCE_MS = 60_000

/**
 * How often something is asked of the container: podman's remote client loses, now and then, all that a
 * command in it says, and calls that a success. Source: podman issue 25855
 */
const ATTEMPTS = 3

const SCRIPT = join(BUILD_ROOT, 'scripts/container/travel.js')
const TRAVEL = [process.execPath, SCRIPT]

/** First process of the container: it has nothing to do but to end with us. */
const HOLD = `trap 'exit 0' TERM INT; ${UNTIL_GONE}`

/** Makes the folders, sheds what killed containers left in the cache, does the step and remembers its status. */
const DO_STEP = [
  `find "$1" -depth -name '.*.tmp-*' -mmin +${String(STALE_MINUTES)} -exec rm -rf {} + 2>/dev/null`,
  'cd "$2" && shift 2 && sleep 0.02 && touch /osbuilder-begun && sleep 0.02 || exit',
  '"$@"; status=$?; echo "$status" >/osbuilder-status; exit "$status"',
].join('\n')

/**
 * Do a step on an engine that does not see the caller's disk: everything travels through the engine, as
 * streams of tar. Returns the exit status of the step.
 */
export async function runApart(job: Job, places: Places, workspace: Workspace): Promise<number> {
  tellLimits(places)
  let stopped: number | undefined
  for (const signal of SIGNALS) {
    // As a shell names it.
    process.on(signal, () => (stopped ??= 128 + constants.signals[signal]))
  }
  const holder = await startContainer(job, [`${CACHE_VOLUME}:${places.cacheDir}`], HOLD, [])
  try {
    await untilStarted(job, holder)
    await sendAll(job, places, workspace)
    const status = await doStep(job, places)
    await fetchAll(job, places, workspace, status === 0)
    return status
  } catch (error) {
    // Whoever stopped us needs no reason for what then failed.
    if (stopped !== undefined) return stopped
    if (error instanceof Told) return error.status
    throw error
  } finally {
    holder.endInput()
    await Promise.race([holder.exit, new Promise((resolve) => setTimeout(resolve, PATIENCE_MS).unref())])
    await removeContainer(job)
  }
}

function tellLimits(places: Places): void {
  if (places.argv.includes('-w'))
    note('the engine keeps no outputs: what it would build is told as if it were all')
}

/** @throws BuildError E_COMMAND when the container does not start */
async function untilStarted(job: Job, holder: Background): Promise<void> {
  const { engine, container } = job
  let hasEnded = false
  void holder.exit.then(() => (hasEnded = true))
  const deadline = Date.now() + PATIENCE_MS
  while (!hasEnded && Date.now() < deadline) {
    const asked = [...engine.argv, 'ps', '--quiet', '--filter', `name=${container}`]
    if ((await capture(asked, { env: engine.env, acceptFailure: true, timeoutMs: PATIENCE_MS })) !== '')
      return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new BuildError('E_COMMAND', `${engine.name} could not start a container`, {
    hint: 'what it said is above; run the same command again',
  })
}

/** Send the project, what the settings name, and the rootfs to pack. */
async function sendAll(job: Job, places: Places, workspace: Workspace): Promise<void> {
  const { source } = places
  const project = runtimeFiles().map((path) => join(PROJECT_ROOT, path))
  const manifest = source === undefined ? [] : [source, `${source}.json`].filter((path) => existsSync(path))
  const wanted = [...project, ...places.inputs, ...manifest, markerOf(workspace.workDir)]
  // A dot behind a folder makes tar follow a link to it; files are sent as what a link leads to.
  const isFolder = (path: string): boolean => statSync(path).isDirectory()
  const folders = wanted.filter(isFolder).map((path) => join(path, '/.'))
  await send(job, ['-s', ...wanted.filter((path) => !isFolder(path))])
  await send(job, ['-s', ...folders])
}

/** A step of ours that moves files has failed, and has said why. */
class Told extends Error {
  readonly status: number

  constructor({ status, said }: EndOfPipe) {
    super('told already')
    this.status = status
    process.stderr.write(said)
  }
}

async function send(job: Job, words: readonly string[]): Promise<void> {
  const unpack = ['tar', '--extract', '--directory', '/', '--numeric-owner', '--preserve-permissions']
  const attributes = ['--xattrs', '--xattrs-include=*', '--no-overwrite-dir']
  const [sent, unpacked] = await connect(
    { argv: [...TRAVEL, ...words], env: 'whole' },
    { argv: inside(job, ['--interactive'], [...unpack, ...attributes]), env: job.engine.env },
  )
  if (sent.status === 0 && unpacked.status === 0) return
  if (!(await isAlive(job))) throw await endedEarly(job.engine, job.container)
  // When the reader has failed, all that the writer knows is that nobody reads.
  if (unpacked.status === 0) throw new Told(sent)
  throw transferError(job, 'what the step needs did not arrive in the container', unpacked)
}

/** The error for a tar in the container that failed. */
function transferError({ engine }: Job, what: string, { said }: EndOfPipe): BuildError {
  const because = lastLines(said)
  const full = fullLine(because)
  if (full === undefined)
    return new BuildError('E_COMMAND', what, { because, hint: 'run the same command again' })
  return new BuildError('E_FULL', `no space left on the machine of ${engine.name}${at(engine.place)}`, {
    because: [full],
    hint: `free some space there, such as with: ${engine.name} system prune`,
  })
}

async function isAlive({ engine, container }: Job): Promise<boolean> {
  const asked = [...engine.argv, 'ps', '--quiet', '--filter', `name=${container}`]
  try {
    return (await capture(asked, { env: engine.env, timeoutMs: PATIENCE_MS })) !== ''
  } catch (error) {
    if (error instanceof BuildError) return false
    throw error
  }
}

/** Tell the container what is known here of the rootfs that it got: that we built it, and whether it was edited. */
async function adopt(job: Job, source: string): Promise<void> {
  const known = await capture([...TRAVEL, '-q', source])
  if (known === 'foreign') return
  const words = [BUILDER_NODE, SCRIPT, '-a', source, ...(known === 'edited' ? ['-e'] : [])]
  await capture(inside(job, [], words), { env: job.engine.env })
}

async function doStep(job: Job, places: Places): Promise<number> {
  if (places.source !== undefined) await adopt(job, places.source)
  const words = ['bash', '--norc', '-c', DO_STEP, 'osbuilder', places.cacheDir, PROJECT_ROOT]
  const child = await startBackground(inside(job, [], [...words, BUILDER_NODE, ...places.argv]), {
    env: job.engine.env,
  })
  const status = await child.exit
  if (status === 0) return 0
  const asked = inside(job, [], ['cat', '/osbuilder-status'])
  const said = (await isAlive(job))
    ? await capture(asked, { env: job.engine.env, acceptFailure: true, timeoutMs: PATIENCE_MS })
    : ''
  if (/^\d+$/.test(said)) return Number(said)
  throw await endedEarly(job.engine, job.container)
}

/** Fetch the logs, and when the step has succeeded what it made. */
async function fetchAll(job: Job, places: Places, workspace: Workspace, isMade: boolean): Promise<void> {
  const folders = new Set(isMade ? places.outputs : [workspace.workDir])
  for (const folder of folders) {
    const names = await namesIn(job, places, folder)
    const wanted = isMade ? names : names.filter((name) => join(folder, name) === workspace.logDir)
    if (wanted.length === 0) continue
    const attributes = ['--numeric-owner', '--xattrs', '--xattrs-include=*', '--sparse']
    const argv = ['tar', '--create', '--format=pax', ...attributes, '--directory', folder, '--', ...wanted]
    const packed = places.source === undefined ? [] : ['-p', places.source]
    const fetch = (): Promise<readonly [EndOfPipe, EndOfPipe]> =>
      connect(
        { argv: inside(job, [], argv), env: job.engine.env },
        { argv: [...TRAVEL, '-r', folder, ...packed], env: 'whole' },
      )
    let [sent, received] = await fetch()
    for (let attempt = 1; attempt < ATTEMPTS && isLost(sent, received); attempt += 1) {
      ;[sent, received] = await fetch()
    }
    if (received.status === 0 && sent.status === 0) continue
    if (!(await isAlive(job))) throw await endedEarly(job.engine, job.container)
    if (received.status !== 0) throw new Told(received)
    throw transferError(job, 'what the container made did not leave it', sent)
  }
}

/** Where a kernel is compiled: much, and of use to nobody elsewhere. */
const KERNEL_FOLDERS = ['linux', 'kernel']

/** True when a tar was written and nothing of it arrived, which tar tells in these words. */
function isLost(sent: EndOfPipe, received: EndOfPipe): boolean {
  return sent.status === 0 && received.status !== 0 && /not look like a tar archive/.test(received.said)
}

/** Names in a folder of the container that the step made, and nothing that was sent or is another's folder. */
async function namesIn(job: Job, places: Places, folder: string): Promise<string[]> {
  const newer = ['-maxdepth', '1', '-mindepth', '1', '-cnewer', '/osbuilder-begun', '!', '-name', '.*']
  const find = ['find', folder, ...newer, '-printf', '%f\\n']
  // A line that is always there shows that the answer is.
  const asked = inside(job, [], ['bash', '--norc', '-c', '"$@"; echo .', 'bash', ...find])
  let said = ''
  for (let attempt = 0; attempt < ATTEMPTS && said === ''; attempt += 1) {
    said = await capture(asked, { env: job.engine.env, acceptFailure: true })
  }
  const compiled = job.step === 'kernel' ? KERNEL_FOLDERS.map((name) => join(folder, name)) : []
  const others = [
    ...compiled,
    ...places.outputs,
    places.cacheDir,
    PROJECT_ROOT,
    ...places.inputs,
    places.source ?? folder,
  ]
  const isOther = (path: string): boolean => others.some((other) => other === path || isBelow(other, path))
  return said.split('\n').filter((name) => !['', '.'].includes(name) && !isOther(join(folder, name)))
}

/** A command that runs something in the container. */
function inside({ engine, container }: Job, flags: readonly string[], argv: readonly string[]): string[] {
  return [...engine.argv, 'exec', ...flags, container, ...argv]
}
