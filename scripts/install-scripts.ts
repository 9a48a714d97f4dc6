// SPDX-License-Identifier: Apache-2.0
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import fsExtra from 'fs-extra'

import { report } from './log.ts'
import { PROJECT_ROOT } from './paths.ts'
import { readSettings } from './settings.ts'
import { runStep } from './step.ts'

const USAGE = `
Install what builds guests, so that it runs without this checkout.

  install-scripts.js

  -h  show this help

DESTDIR is put before INSTALL_DIR, the folder that gets the scripts.
`

/** Folders of the build that run; its tests stay here. */
const ROOMS = ['scripts', 'rootfs-builder', 'image-builder', 'initrd-builder', 'dracut', 'kernel', 'proof']

/** Data beside the sources that the steps read, by its ending. */
const DATA = /\.(c|h|gpg|pub|conf|list|yaml|patch)$/

/** Commands by the names upstream's scripts have, without their ending. */
const COMMANDS = {
  rootfs: 'rootfs-builder/rootfs.js',
  image_builder: 'image-builder/image.js',
  initrd_builder: 'initrd-builder/initrd.js',
  kernel_builder: 'kernel/kernel.js',
  boot: 'scripts/boot/boot.js',
} as const

await runStep({ name: 'install', usage: USAGE, needsOwners: false, main })

function main(): Promise<void> {
  const settings = readSettings()
  const target = join(settings.DESTDIR || '/', settings.INSTALL_DIR)
  mkdirSync(target, { recursive: true })
  for (const room of ROOMS) {
    const built = join(target, 'build', room)
    rmSync(built, { recursive: true, force: true })
    fsExtra.copySync(join(PROJECT_ROOT, 'build', room), built)
    copyData(room, target)
  }
  fsExtra.copySync(join(PROJECT_ROOT, 'package.json'), join(target, 'package.json'))
  copyRuntimePackages(target)
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

function copyData(room: string, target: string): void {
  for (const entry of readdirSync(join(PROJECT_ROOT, room), { recursive: true, encoding: 'utf8' })) {
    if (DATA.test(entry)) fsExtra.copySync(join(PROJECT_ROOT, room, entry), join(target, room, entry))
  }
}

/** Packages the steps import, and not those the tests and checks need. Source: package-lock.json, field `dev`. */
function copyRuntimePackages(target: string): void {
  const lock = JSON.parse(readFileSync(join(PROJECT_ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Readonly<Record<string, { readonly dev?: boolean; readonly optional?: boolean }>>
  }
  for (const [path, { dev }] of Object.entries(lock.packages)) {
    if (path === '' || dev === true || !existsSync(join(PROJECT_ROOT, path))) continue
    fsExtra.copySync(join(PROJECT_ROOT, path), join(target, path))
  }
}
