// SPDX-License-Identifier: Apache-2.0
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { writeManifest } from '../../scripts/manifest.ts'
import type { Manifest } from '../../scripts/manifest.ts'
import { parseSettings } from '../../scripts/settings.ts'
import { openRootfs } from '../../scripts/source-rootfs.ts'
import { openWorkspace } from '../../scripts/workspace.ts'
import { listTree } from '../../scripts/tree-stamp.ts'

function manifestOf(fingerprint: string): Manifest {
  const [name, inputs, result] = ['rootfs', {}, {}]
  return { format: 'osbuilder-manifest-1', kind: 'rootfs', name, fingerprint, inputs, result }
}

t.test('the manifest of a tree that did not get the name is not that of the one that has it', async (t) => {
  const folder = t.testdir({ rootfs: { file: 'content' } })
  const rootfs = join(folder, 'rootfs')
  const settings = parseSettings({ WORKDIR: join(folder, 'work') })
  const workspace = openWorkspace(settings)
  writeManifest(rootfs, rootfs, manifestOf('first'), (await listTree(rootfs)).stamp)
  const whole = await openRootfs(settings, workspace, rootfs)
  t.equal(whole.manifest?.fingerprint, 'first')
  t.equal(whole.isEdited, false)
  // As a build leaves it that is killed before its last move.
  const next = join(folder, 'next')
  mkdirSync(next)
  writeManifest(rootfs, next, manifestOf('second'), (await listTree(next)).stamp)
  const left = await openRootfs(settings, workspace, rootfs)
  t.equal(left.manifest, undefined)
  t.equal(left.isEdited, false)
})
