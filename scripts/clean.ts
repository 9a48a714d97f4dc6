// SPDX-License-Identifier: Apache-2.0
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { BuildError } from './errors.ts'
import { report } from './log.ts'
import { filesOf, readState } from './manifest.ts'
import { readSettings } from './settings.ts'
import { runStep } from './step.ts'
import type { StepArguments } from './step.ts'
import { isWorkspace, openWorkspace, removeLeftovers } from './workspace.ts'

const USAGE = `
Remove what was built for DISTRO; downloads and base trees stay in the cache.

  clean.js [-a]

  -a  remove the whole WORKDIR, caches too (make distclean)
  -h  show this help
`

// Files of a user's build belong to several owners, as seen from outside.
await runStep({ name: 'clean', usage: USAGE, switches: ['a'], needsOwners: true, main })

function main(given: StepArguments): Promise<void> {
  const settings = readSettings()
  const { WORKDIR, DISTRO } = settings
  if (!existsSync(WORKDIR)) return Promise.resolve()
  if (!isWorkspace(WORKDIR)) {
    throw new BuildError(
      'E_CONFIG',
      `WORKDIR=${WORKDIR}: was not made by osbuilder, so nothing in it is removed`,
    )
  }
  if (given.has('a')) {
    rmSync(WORKDIR, { recursive: true, force: true })
    report('CLEAN', WORKDIR)
    return Promise.resolve()
  }
  const workspace = openWorkspace(settings)
  removeLeftovers(workspace)
  const images = ['', `image-${DISTRO}`, `initrd-${DISTRO}`].map(
    (name) => `kata-containers${name && `-${name}`}.img`,
  )
  const rootfs = settings.ROOTFS_DIR || join(workspace.rootfsDest, `${DISTRO}_rootfs`)
  const outputs = [
    rootfs,
    ...[...images, 'kata-containers-initrd.img'].map((name) => join(workspace.imagesDest, name)),
  ]
  for (const output of outputs) {
    // What has no state of ours beside it was put there by somebody else.
    if (existsSync(output) && readState(output) === undefined) continue
    for (const file of filesOf(output)) rmSync(file, { recursive: true, force: true })
  }
  const left = readdirSync(workspace.workDir).filter((name) => !name.startsWith('.'))
  report('CLEAN', `${DISTRO}: done`, left.length === 0 ? '' : `kept: ${left.join(' ')}`)
  return Promise.resolve()
}
