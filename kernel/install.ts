// SPDX-License-Identifier: Apache-2.0
import { copyFileSync, existsSync, mkdirSync, symlinkSync } from 'node:fs'
import { basename, join } from 'node:path'

import { BuildError } from '../scripts/errors.ts'
import { report } from '../scripts/log.ts'
import { readManifest } from '../scripts/manifest.ts'
import { readSettings } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import { runStep } from '../scripts/step.ts'
import { withTemporary } from '../scripts/temporary.ts'
import { openWorkspace } from '../scripts/workspace.ts'
import { checkFragmentSettings } from './fragments.ts'
import { kernelFiles } from './outputs.ts'
import { suffixOf } from './plan.ts'
import { readVersions } from './versions.ts'

const USAGE = `
Install the kernel that make kernel built, by the names that Kata's runtime knows.

  install.js

  -h  show this help

DESTDIR/PREFIX/share/kata-containers gets vmlinuz, vmlinux, config and System.map with their
version, and vmlinuz.container and vmlinux.container as links to the first two.
`

await runStep({ name: 'install-kernel', usage: USAGE, needsOwners: false, main })

async function main(): Promise<void> {
  const settings = readSettings({}, [checkFragmentSettings])
  const workspace = openWorkspace(settings)
  const variants = [...new Set(settings.KERNEL_VARIANT)]
  const { vmlinuz, vmlinux } = kernelFiles(workspace, variants)
  const release = readManifest(vmlinuz)?.result['release']
  if (!existsSync(vmlinuz) || typeof release !== 'string') {
    throw new BuildError('E_INPUT', `${vmlinuz}: no kernel to install`, {
      hint: `make kernel${variants.length === 0 ? '' : ` KERNEL_VARIANT="${variants.join(' ')}"`}    builds one`,
    })
  }
  const folder = targetFolder(settings)
  mkdirSync(folder, { recursive: true })
  const suffix = suffixOf(variants)
  // Upstream's order: version, number of the configuration, variant.
  const version = `${release.slice(0, release.length - suffix.length)}-${String(readVersions().configVersion)}${suffix}`
  const files = [
    ['vmlinuz', vmlinuz],
    ['vmlinux', vmlinux],
    ['config', join(workspace.workDir, `config-${release}`)],
    ['System.map', join(workspace.workDir, `System.map-${release}`)],
  ] as const
  for (const [name, source] of files) {
    await withTemporary(join(folder, `${name}-${version}`), (temporary) => {
      copyFileSync(source, temporary)
      return Promise.resolve()
    })
  }
  for (const [name, source] of files.slice(0, 2)) {
    // The old link leads to a whole kernel until the new one does.
    await withTemporary(join(folder, basename(source)), (temporary) => {
      symlinkSync(`${name}-${version}`, temporary)
      return Promise.resolve()
    })
  }
  report('INSTALL', `${version}`, folder)
}

function targetFolder({ DESTDIR, PREFIX }: Settings): string {
  return join(DESTDIR || '/', PREFIX, 'share', 'kata-containers')
}
