// SPDX-License-Identifier: Apache-2.0
import { existsSync, watch } from 'node:fs'
import type { FSWatcher } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { BuildError } from './errors.ts'
import { note, report } from './log.ts'
import { PROJECT_ROOT } from './paths.ts'
import { startBackground } from './run.ts'
import type { Background } from './run.ts'
import { guestWords, readSettings } from './settings.ts'
import type { Settings } from './settings.ts'
import { runStep } from './step.ts'

const USAGE = `
Build the initrd, boot it with a console, and do so again whenever the agent or the overlay changes.

  dev.js

  -h  show this help

Watched are AGENT_SOURCE_BIN and ROOTFS_OVERLAY; at least one of them is to be given. What changed is
added to the initrd (DEV=yes), so a new guest is there in about a second. End it with Ctrl-C.
Every other setting comes from the environment; "make help" lists them.
`

/** A compiler writes a file in several steps; this long after the last one it is taken. Unit: ms. */
const SETTLE_MS = 200

await runStep({ name: 'dev', usage: USAGE, needsOwners: false, main })

async function main(): Promise<void> {
  const settings = readSettings({}, [checkWatched])
  const changes = watchAll(settings)
  let guest: Background | undefined
  try {
    for (;;) {
      if (await build()) {
        await guest?.stop()
        guest = await bootGuest()
      } else {
        note(guest === undefined ? 'waiting for a change' : 'the guest of before goes on')
      }
      const running = guest?.exit.then(() => 'ended' as const)
      const next = await Promise.race([changes.next(), ...(running === undefined ? [] : [running])])
      if (next !== 'ended') continue
      guest = undefined
      note('the guest ended; the next change starts another one, Ctrl-C ends this')
      await changes.next()
    }
  } finally {
    changes.stop()
    await guest?.stop()
  }
}

function checkWatched(settings: Settings): string[] {
  if (settings.AGENT_SOURCE_BIN !== '' || settings.ROOTFS_OVERLAY !== '') return []
  const example = `make ${guestWords(settings)} AGENT_SOURCE_BIN=target/release/kata-agent dev`
  return [`AGENT_SOURCE_BIN, ROOTFS_OVERLAY: give at least one to watch: ${example}`]
}

/** Build as make does. False when a step failed, which it has told. */
async function build(): Promise<boolean> {
  const steps = await startStep('bundle/scripts/steps.js', { DEV: 'yes' }, ['rootfs', '--', 'initrd'])
  return (await steps.exit) === 0
}

function bootGuest(): Promise<Background> {
  return startStep('scripts/boot/boot.js', { BOOT: 'initrd' }, ['-i'])
}

function startStep(
  step: string,
  env: Readonly<Record<string, string>>,
  flags: readonly string[] = [],
): Promise<Background> {
  const argv = [process.execPath, join(PROJECT_ROOT, 'build', step), ...flags]
  return startBackground(argv, { terminal: true, wholeEnvironment: true, env })
}

interface Changes {
  /** Settles when something changed since it was asked last, and has settled. */
  readonly next: () => Promise<'changed'>
  readonly stop: () => void
}

/** Watch the agent by its folder, for a compiler replaces it, and the overlay with all below it. */
function watchAll(settings: Settings): Changes {
  let isChanged = false
  let wake = (): void => undefined
  let timer: NodeJS.Timeout | undefined
  const tell = (what: string): void => {
    clearTimeout(timer)
    timer = setTimeout(() => {
      report('DEV', `${what} changed`)
      isChanged = true
      wake()
    }, SETTLE_MS)
  }
  const watchers: FSWatcher[] = []
  const agent = settings.AGENT_SOURCE_BIN
  if (agent !== '') {
    watchers.push(
      watch(folderOf(agent, 'AGENT_SOURCE_BIN'), (_, name) => {
        if (name === basename(agent) && existsSync(agent)) tell(agent)
      }),
    )
  }
  const files = settings.ROOTFS_OVERLAY
  if (files !== '') {
    watchers.push(watch(files, { recursive: true }, (_, name) => tell(join(files, name ?? ''))))
  }
  return {
    next: async () => {
      while (!isChanged) await new Promise<void>((resolve) => (wake = resolve))
      isChanged = false
      return 'changed'
    },
    stop: () => {
      clearTimeout(timer)
      for (const watcher of watchers) watcher.close()
    },
  }
}

function folderOf(file: string, setting: string): string {
  const folder = dirname(file)
  if (existsSync(folder)) return folder
  throw new BuildError('E_CONFIG', `${setting}=${file}: no such folder to watch`)
}
