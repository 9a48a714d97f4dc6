// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { basename } from 'node:path'

import { BuildError } from '../scripts/errors.ts'
import { withLock } from '../scripts/lock.ts'
import { note, report } from '../scripts/log.ts'
import { readSettings } from '../scripts/settings.ts'
import { runStep } from '../scripts/step.ts'
import type { StepArguments } from '../scripts/step.ts'
import { openWorkspace } from '../scripts/workspace.ts'
import { findOutputs, otherFiles } from './outputs.ts'
import { secretKeyKind, signFile, signedFiles } from './signing.ts'

const USAGE = `
Sign outputs, their manifests, SBOMs and provenance, with a key of OpenSSH or minisign (SIGN_KEY).

  sign.js [OUTPUT...]

  -h  show this help

OUTPUT is a rootfs, image, initrd or kernel (default: all of DISTRO in WORKDIR, and the kernels there).
`

await runStep({ name: 'sign', usage: USAGE, needsOwners: false, main })

async function main(given: StepArguments): Promise<void> {
  const settings = readSettings()
  const kind = secretKeyKind(settings.SIGN_KEY)
  const workspace = openWorkspace(settings)
  const found = findOutputs(settings, workspace, given.positional).map((output) => {
    const files = signedFiles({ path: output.path, kind: output.manifest.kind }, otherFiles(output))
    return { ...output, files, missing: files.filter((file) => !existsSync(file)) }
  })
  const outputs = found.filter(({ missing }) => missing.length === 0)
  const missing = found.flatMap((output) => output.missing)
  if (outputs.length === 0 || (given.positional.length > 0 && missing.length > 0)) {
    throw new BuildError('E_INPUT', 'there are no SBOMs and no provenance to sign', {
      because: missing.map((file) => `missing: ${file}`),
      hint: 'make sbom sign    writes and signs them',
    })
  }
  for (const {
    path,
    missing: [file],
  } of found)
    if (file !== undefined) note(`${basename(path)}: not signed, for it is not described: make sbom`)
  for (const { path, files } of outputs) {
    await withLock(workspace, path, 'exclusive', async () => {
      for (const file of files) await signFile(file, settings.SIGN_KEY, kind)
    })
    report('SIGN', basename(path), `${String(files.length)} files`, kind)
  }
}
