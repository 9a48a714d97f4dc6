// SPDX-License-Identifier: Apache-2.0
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import fsExtra from 'fs-extra'

import { report } from './log.ts'
import { PROJECT_ROOT } from './paths.ts'
import { runtimeFiles } from './runtime-files.ts'
import { readSettings } from './settings.ts'
import { runStep } from './step.ts'

const USAGE = `
Install what builds guests, so that it runs without this checkout.

  install-scripts.js

  -h  show this help

DESTDIR is put before INSTALL_DIR, the folder that gets the scripts.
`

/** Commands by the names upstream's scripts have, without their ending. */
const COMMANDS = {
  rootfs: 'bundle/rootfs-builder/rootfs.js',
  image_builder: 'bundle/image-builder/image.js',
  initrd_builder: 'bundle/initrd-builder/initrd.js',
  kernel_builder: 'kernel/kernel.js',
  boot: 'scripts/boot/boot.js',
} as const

await runStep({ name: 'install', usage: USAGE, needsOwners: false, main })

function main(): Promise<void> {
  const settings = readSettings()
  const target = join(settings.DESTDIR || '/', settings.INSTALL_DIR)
  mkdirSync(target, { recursive: true })
  for (const path of runtimeFiles()) {
    // What an older version had there is gone in this one.
    if (path.startsWith('build/')) rmSync(join(target, path), { recursive: true, force: true })
    fsExtra.copySync(join(PROJECT_ROOT, path), join(target, path))
  }
  for (const [name, step] of Object.entries(COMMANDS)) writeCommand(join(target, name), step)
  report('INSTALL', target)
  return Promise.resolve()
}

function writeCommand(file: string, step: string): void {
  const lines = [
    '#!/bin/sh',
    '# SPDX-License-Identifier: Apache-2.0',
    `exec node "$(dirname "$0")/build/${step}" "$@"`,
    '',
  ]
  writeFileSync(file, lines.join('\n'))
  chmodSync(file, 0o755)
}
