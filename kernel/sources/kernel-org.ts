// SPDX-License-Identifier: Apache-2.0
import { constants, copyFileSync, existsSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { sha256 } from '../../scripts/digest.ts'
import { fetchSmall } from '../../scripts/download.ts'
import { BuildError } from '../../scripts/errors.ts'
import { fetchFile } from '../../scripts/fetch-file.ts'
import { keepFile } from '../../scripts/kept-file.ts'
import { note } from '../../scripts/log.ts'
import type { LockedIndex } from '../../scripts/package-lock/package-lock.ts'
import { PROJECT_ROOT } from '../../scripts/paths.ts'
import type { Settings } from '../../scripts/settings.ts'
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
  const mirror = request.settings.KERNEL_MIRROR || kernelOrg.mirror
  const folder = `${mirror}/v${String(versionNumbers(version)[0])}.x`
  const wanted: Wanted = { mirror, folder, name, version, pinned }
  // Without a pin the signed list must be read first: its digest is what names the sources.
  const digest = pinned?.sha256 ?? (await signedList(request, wanted)).digest
  const download = (): Promise<void> =>
    fetchFile({
      url: `${folder}/${name}`,
      target: file,
      digest,
      digestOrigin: pinned === undefined ? 'sha256sums.asc' : 'kernel/versions.yaml and sha256sums.asc',
      hint: 'try again later, or use another mirror with KERNEL_MIRROR',
    })
  return {
    title: `${name} of kernel.org`,
    identity: { tarball: name, sha256: digest },
    keepsTimes: false,
    unpack: async (target) => {
      if (pinned !== undefined && !existsSync(file)) await signedList(request, wanted)
      await download()
      await unpackTarball(file, target, request.logFile)
    },
    facts: async () => {
      const { index } = await signedList(request, wanted)
      await download()
      const kept = await keepFile(request.workspace.cacheDir, digest, (target) => {
        copyFileSync(file, target, constants.COPYFILE_FICLONE)
        return Promise.resolve()
      })
      const source = { url: `${folder}/${name}`, sizeBytes: statSync(kept).size, sha256: digest }
      return { file: source, signers: index.signers, indexes: [index] }
    },
  }
}

/** The keyring that signs the lists of kernel.org. */
export function kernelOrgKeyring({ KERNEL_KEYRING }: Pick<Settings, 'KERNEL_KEYRING'>): string {
  return KERNEL_KEYRING || join(PROJECT_ROOT, readVersions().kernelOrg.keyring)
}

/** Digest that a signed list names for a tarball; undefined where it names none. */
export function listedDigest(text: string, name: string): string | undefined {
  return new RegExp(`^([0-9a-f]{64}) +${name.replaceAll('.', '\\.')}$`, 'm').exec(text)?.[1]
}

interface Wanted {
  readonly mirror: string
  readonly folder: string
  readonly name: string
  readonly version: string
  readonly pinned: PinnedVersion | undefined
}

/**
 * The signed checksum file, and the digest of a tarball in it.
 *
 * @throws BuildError E_SIGNATURE when the signature does not hold, E_INPUT when it does not list the
 *   version, E_DIGEST when another digest is pinned
 */
async function signedList(
  request: SourceRequest,
  wanted: Wanted,
): Promise<{ readonly digest: string; readonly index: LockedIndex }> {
  const address = `${wanted.folder}/sha256sums.asc`
  const answer = await fetchSmall(address)
  if (!answer.found) {
    throw new BuildError('E_NETWORK', `${address}: the server answers ${String(answer.status)}`, {
      hint: 'check KERNEL_MIRROR: it has folders v5.x and v6.x with sha256sums.asc in them',
    })
  }
  const { text, signers } = await readSigned(answer.content, {
    address,
    keyring: kernelOrgKeyring(request.settings),
    scratch: join(request.workspace.cacheDir, 'kernel', 'sha256sums'),
    hint: 'check KERNEL_MIRROR; for a mirror that signs by itself set KERNEL_KEYRING',
  })
  const digest = listedDigest(text, wanted.name)
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
  const sha256OfList = sha256(answer.content)
  await keepFile(request.workspace.cacheDir, sha256OfList, (target) => {
    writeFileSync(target, answer.content)
    return Promise.resolve()
  })
  return {
    digest,
    index: {
      ...{ name: 'sha256sums.asc', url: address, archive: wanted.mirror, signers },
      ...{ sizeBytes: answer.content.length, sha256: sha256OfList },
    },
  }
}
