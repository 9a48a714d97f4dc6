// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { BuildError } from '../errors.ts'
import { readManifest, readState, writeState } from '../manifest.ts'
import { run } from '../run.ts'
import { readSettings } from '../settings.ts'
import { runStep } from '../step.ts'
import type { StepArguments } from '../step.ts'
import { listTree } from '../tree-stamp.ts'
import { openWorkspace } from '../workspace.ts'
import { receive } from './receive.ts'

const USAGE = `
Move files between this host and a container whose engine is on another machine.

  travel.js -s PATH…               write what is at these paths of the host to stdout, as a tar
  travel.js -r FOLDER [-p ROOTFS]  read what a step made in FOLDER from stdin, as a tar, and publish it;
                                   ROOTFS is what the step packed
  travel.js -q ROOTFS              tell what is known of it: built, edited (since) or foreign
  travel.js -a ROOTFS [-e]         in the container: take a rootfs that came with its manifest for one
                                   that was built here; -e: for one that was edited since

  -h  show this help
`

/** How a tree is written so that owners, bits, attributes and holes arrive. */
const WRITE = ['--create', '--format=pax', '--numeric-owner', '--xattrs', '--xattrs-include=*', '--sparse']

/** A stamp that no tree has. */
const EDITED = 'edited'

// On the way files keep the owners that a rootfs has for its builder.
await runStep({
  name: 'travel',
  usage: USAGE,
  valueFlags: ['a', 'p', 'q', 'r'],
  switches: ['e', 's'],
  needsOwners: true,
  main,
})

async function main(given: StepArguments): Promise<void> {
  const adopted = given.text('a')
  const folder = given.text('r')
  const asked = given.text('q')
  if (adopted !== undefined) await adopt(adopted, given.has('e'))
  else if (asked !== undefined) process.stdout.write(`${await knownOf(asked)}\n`)
  else if (folder !== undefined) await receive(openWorkspace(readSettings()), folder, given.text('p'))
  else if (given.has('s')) await send(given.positional)
  else
    throw new BuildError('E_USAGE', 'travel takes -s, -r, -q or -a', {
      hint: 'travel.js -h    tells of them',
    })
}

async function send(paths: readonly string[]): Promise<void> {
  await run(['tar', ...WRITE, '--directory', '/', '--', ...paths.map((path) => `.${path}`)])
}

async function knownOf(folder: string): Promise<'built' | 'edited' | 'foreign'> {
  const state = readState(folder)
  if (state === undefined || readManifest(folder) === undefined) return 'foreign'
  return state.stamp === (await listTree(folder)).stamp ? 'built' : 'edited'
}

async function adopt(folder: string, isEdited: boolean): Promise<void> {
  const manifest = existsSync(join(folder, '.')) ? readManifest(folder) : undefined
  if (manifest === undefined) throw new BuildError('E_INPUT', `${folder}: came without its manifest`)
  const stamp = isEdited ? EDITED : (await listTree(folder)).stamp
  writeState(folder, folder, { fingerprint: manifest.fingerprint, stamp })
}
