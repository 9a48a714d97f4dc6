// SPDX-License-Identifier: Apache-2.0
import { mkdirSync } from 'node:fs'
import { basename, join } from 'node:path'

import { report, warn } from '../scripts/log.ts'
import { readSettings } from '../scripts/settings.ts'
import { runStep } from '../scripts/step.ts'
import type { StepArguments } from '../scripts/step.ts'
import { discard, temporaryFor } from '../scripts/temporary.ts'
import { openWorkspace } from '../scripts/workspace.ts'
import { checkDescriptions, checkManifest, checkRootHash } from './check.ts'
import { findOutputs, otherFiles } from './outputs.ts'
import { openVerifier, signedFiles, verifyFile } from './signing.ts'

const USAGE = `
Check outputs: signatures, digests of the manifest, and SBOMs against every file in them.

  verify.js [-u] [OUTPUT...]

  -h  show this help
  -u  unsigned: check no signatures, only digests and SBOMs

OUTPUT is a rootfs, image, initrd or kernel (default: all of DISTRO in WORKDIR, and the kernels there).
VERIFY_KEY names who may have signed: a public key of OpenSSH or minisign, or a file of allowed signers.
`

await runStep({ name: 'verify', usage: USAGE, switches: ['u'], needsOwners: true, main })

async function main(given: StepArguments): Promise<void> {
  const settings = readSettings()
  const verifier = given.has('u') ? undefined : openVerifier(settings.VERIFY_KEY)
  const workspace = openWorkspace(settings)
  for (const output of findOutputs(settings, workspace, given.positional)) {
    const scratch = temporaryFor(join(workspace.workDir, 'verify'))
    try {
      mkdirSync(scratch)
      const said: string[] = []
      // First the signatures: what is not signed is not even read.
      if (verifier !== undefined) {
        const files = signedFiles({ path: output.path, kind: output.manifest.kind }, otherFiles(output))
        let signer = ''
        for (const file of files) signer = await verifyFile(file, verifier, scratch)
        said.push(`${String(files.length)} signatures of ${signer}`)
      }
      checkManifest(output)
      const rootHash = checkRootHash(output)
      if (rootHash !== undefined) said.push(`root hash ${rootHash.slice(0, 16)}…`)
      const files = await checkDescriptions(output, scratch)
      if (files === undefined)
        warn(`${basename(output.path)}: no tool reads its filesystem; SBOMs were not compared`)
      else said.push(`${String(files)} files as described`)
      report('VERIFY', basename(output.path), ...said)
    } finally {
      discard(scratch)
    }
  }
}
