// SPDX-License-Identifier: Apache-2.0
import { basename } from 'node:path'

import { withLock } from '../scripts/lock.ts'
import { note, report, warn } from '../scripts/log.ts'
import { DESCRIPTIONS } from '../scripts/manifest.ts'
import { readSettings } from '../scripts/settings.ts'
import { runStep } from '../scripts/step.ts'
import type { StepArguments } from '../scripts/step.ts'
import { writeWhole } from '../scripts/temporary.ts'
import { openWorkspace } from '../scripts/workspace.ts'
import { cyclonedx } from './cyclonedx.ts'
import { describeKernel } from './describe-kernel.ts'
import { describeTree, isOutdated } from './describe-tree.ts'
import { findOutputs } from './outputs.ts'
import { projectCommit, provenance } from './provenance.ts'
import { spdx } from './spdx.ts'

const USAGE = `
Write beside every output what it is made of, in CycloneDX and SPDX, and how, as in-toto provenance.

  sbom.js [OUTPUT...]

  -h  show this help

OUTPUT is a rootfs, image, initrd or kernel (default: all of DISTRO in WORKDIR, and the kernels there).
`

/** Files that belong to nothing which a warning names. */
const NAMED = 10

await runStep({ name: 'sbom', usage: USAGE, needsOwners: true, main })

async function main(given: StepArguments): Promise<void> {
  const settings = readSettings()
  const workspace = openWorkspace(settings)
  const project = await projectCommit()
  for (const output of findOutputs(settings, workspace, given.positional)) {
    // One that is asked for by name is refused instead, by what describes it.
    if (given.positional.length === 0 && (await isOutdated(output, settings, workspace))) {
      note(
        `${basename(output.path)}: its rootfs was changed since; make ${output.manifest.kind} packs it again`,
      )
      continue
    }
    await withLock(workspace, output.path, 'exclusive', async () => {
      const description =
        output.manifest.kind === 'kernel'
          ? describeKernel(output)
          : await describeTree(output, settings, workspace)
      const { components, unaccounted } = description.inventory
      const values = {
        cyclonedx: cyclonedx(description),
        spdx: spdx(description),
        provenance: provenance(output, description, project),
      }
      for (const [kind, ending] of Object.entries(DESCRIPTIONS)) {
        const value = values[kind as keyof typeof DESCRIPTIONS]
        writeWhole(`${output.path}${ending}`, `${JSON.stringify(value, null, 1)}\n`)
      }
      const packages = components.filter(({ kind }) => kind === 'package').length
      const files = components.reduce((sum, { files: own }) => sum + own.length, unaccounted.length)
      report('SBOM', basename(output.path), `${String(packages)} packages`, `${String(files)} files`)
      if (unaccounted.length > 0) tellLost(basename(output.path), unaccounted)
    })
  }
}

function tellLost(name: string, files: readonly { readonly path: string }[]): void {
  const shown = files.slice(0, NAMED).map(({ path }) => `/${path}`)
  const more = files.length > NAMED ? ` and ${String(files.length - NAMED)} more` : ''
  warn(`${name}: ${String(files.length)} files belong to nothing: ${shown.join(' ')}${more}`)
}
