// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { fetchSmall } from '../../scripts/download.ts'
import { BuildError } from '../../scripts/errors.ts'
import { fetchFile } from '../../scripts/fetch-file.ts'
import { note } from '../../scripts/log.ts'
import { PROJECT_ROOT } from '../../scripts/paths.ts'
import { readSigned } from '../../scripts/signed-text.ts'
import { readVersions, versionNumbers } from '../versions.ts'
import type { PinnedVersion } from '../versions.ts'
import { unpackTarball } from './tarball.ts'
import type { ResolvedSource, SourceRequest } from './source.ts'

/**
 * A release tarball. Its digest is the pinned one where there is one, and must be the one in the
 * checksum file that kernel.org signs.
 */
export async function kernelOrgSource(request: SourceRequest): Promise<ResolvedSource> {
  const { kernelOrg } = readVersions()
  const version = request.settings.KERNEL_VERSION || String(kernelOrg.versions[0]?.version)
  const pinned = kernelOrg.versions.find((row) => row.version === version)
  const name = `linux-${version}.tar.xz`
  const file = join(request.workspace.cacheDir, 'kernel', name)
  const folder = `${request.settings.KERNEL_MIRROR || kernelOrg.mirror}/v${String(versionNumbers(version)[0])}.x`
  // Without a pin the signed list must be read first: its digest is what names the sources.
  const digest = pinned?.sha256 ?? (await signedDigest(request, { folder, name, version, pinned }))
  return {
    title: `${name} of kernel.org`,
    identity: { tarball: name, sha256: digest },
    keepsTimes: false,
    unpack: async (target) => {
      if (pinned !== undefined && !existsSync(file)) {
        await signedDigest(request, { folder, name, version, pinned })
      }
      await fetchFile({
        url: `${folder}/${name}`,
        target: file,
        digest,
        digestOrigin: pinned === undefined ? 'sha256sums.asc' : 'kernel/versions.yaml and sha256sums.asc',
        hint: 'try again later, or use another mirror with KERNEL_MIRROR',
      })
      await unpackTarball(file, target, request.logFile)
    },
  }
}

interface Wanted {
  readonly folder: string
  readonly name: string
  readonly version: string
  readonly pinned: PinnedVersion | undefined
}

/**
 * The digest of a tarball in the signed checksum file.
 *
 * @throws BuildError E_SIGNATURE when the signature does not hold, E_INPUT when it does not list the
 *   version, E_DIGEST when another digest is pinned
 */
async function signedDigest(request: SourceRequest, wanted: Wanted): Promise<string> {
  const address = `${wanted.folder}/sha256sums.asc`
  const answer = await fetchSmall(address)
  if (!answer.found) {
    throw new BuildError('E_NETWORK', `${address}: the server answers ${String(answer.status)}`, {
      hint: 'check KERNEL_MIRROR: it has folders v5.x and v6.x with sha256sums.asc in them',
    })
  }
  const { text } = await readSigned(answer.content, {
    address,
    keyring: request.settings.KERNEL_KEYRING || join(PROJECT_ROOT, readVersions().kernelOrg.keyring),
    scratch: join(request.workspace.cacheDir, 'kernel', 'sha256sums'),
    hint: 'check KERNEL_MIRROR; for a mirror that signs by itself set KERNEL_KEYRING',
  })
  const digest = new RegExp(`^([0-9a-f]{64}) +${wanted.name.replaceAll('.', '\\.')}$`, 'm').exec(text)?.[1]
  if (digest === undefined) {
    throw new BuildError('E_INPUT', `KERNEL_VERSION=${wanted.version}: kernel.org has no such release`, {
      because: [`${address} does not list ${wanted.name}`],
      hint: 'the releases are listed at https://www.kernel.org/pub/linux/kernel',
    })
  }
  if (wanted.pinned === undefined)
    note(`${wanted.name}: its digest is signed, but not pinned in kernel/versions.yaml`)
  else if (wanted.pinned.sha256 !== digest) {
    throw new BuildError('E_DIGEST', `${wanted.name}: signed and pinned digest differ`, {
      because: [
        `sha256 pinned: ${wanted.pinned.sha256}   (${wanted.pinned.origin})`,
        `sha256 signed: ${digest}   (${address})`,
      ],
      hint: 'find out which is right, and correct kernel/versions.yaml',
    })
  }
  return digest
}
