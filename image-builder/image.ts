// SPDX-License-Identifier: Apache-2.0
import { closeSync, ftruncateSync, openSync, statSync, writeSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'

import { commonAdditions } from '../scripts/additions.ts'
import { codeDigest, fingerprint, sha256 } from '../scripts/digest.ts'
import { BuildError } from '../scripts/errors.ts'
import { hashBehind } from '../scripts/hash-behind.ts'
import type { HashBehind } from '../scripts/hash-behind.ts'
import { withLock } from '../scripts/lock.ts'
import { bytes, report, seconds } from '../scripts/log.ts'
import { isCurrent, outputStamp, tellOutput, writeManifest } from '../scripts/manifest.ts'
import { readSettings, select } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import {
  SOURCE_SETTINGS,
  checkSource,
  withoutChecks,
  contentFingerprint,
  describeRootfs,
  openRootfs,
} from '../scripts/source-rootfs.ts'
import type { SourceRootfs } from '../scripts/source-rootfs.ts'
import { runStep } from '../scripts/step.ts'
import type { StepArguments } from '../scripts/step.ts'
import { withTemporary } from '../scripts/temporary.ts'
import { withEntries } from '../scripts/tree.ts'
import { openWorkspace, removeLeftovers } from '../scripts/workspace.ts'
import { readXattrs, withXattrs } from '../scripts/xattrs.ts'
import { minimumExt4Bytes, planExt4 } from './filesystem/ext4-plan.ts'
import type { Ext4Plan } from './filesystem/ext4-plan.ts'
import { writeExt4 } from './filesystem/ext4.ts'
import { layoutImage, overheadBytes, roundUp } from './layout.ts'
import type { ImageLayout } from './layout.ts'

const USAGE = `
Pack a rootfs into a disk image.

  image.js [-f ext4] [-o FILE] [-r MIB] [ROOTFS]

  -f TYPE  filesystem of the image (FS_TYPE)
  -h       show this help
  -o FILE  image to write (default: kata-containers.img in IMAGES_BUILD_DEST)
  -r MIB   free space to leave in the filesystem (ROOT_FREE_SPACE)
  -w       tell whether it would be built from the rootfs as it is, and why; nothing is built

ROOTFS is the folder to pack (default: ROOTFS_DIR, else that of DISTRO). It is only read.
Every other setting comes from the environment; "make help" lists them.
`

const MIB = 1024 * 1024

/** Settings that the bytes of an image depend on. */
const IMAGE_SETTINGS = [
  ...SOURCE_SETTINGS,
  'BLOCK_SIZE',
  'FS_TYPE',
  'IMAGE_SIZE_ALIGNMENT_MB',
  'IMG_SIZE',
  'ROOT_FREE_SPACE',
  'SKIP_DAX_HEADER',
] as const

type ImageSettings = Readonly<Pick<Settings, Exclude<(typeof IMAGE_SETTINGS)[number], 'SKIP_ROOTFS_CHECK'>>>

await runStep({
  name: 'image',
  usage: USAGE,
  valueFlags: ['f', 'o', 'r'],
  switches: ['w'],
  needsOwners: true,
  main,
})

async function main(given: StepArguments): Promise<void> {
  const settings = readSettings({ FS_TYPE: given.text('f'), ROOT_FREE_SPACE: given.text('r') })
  const workspace = openWorkspace(settings)
  const output = resolve(given.text('o') ?? join(workspace.imagesDest, 'kata-containers.img'))
  const folder = given.positional[0]
  const startMs = Date.now()
  const rootfs = await openRootfs(settings, workspace, folder === undefined ? undefined : resolve(folder))
  const chosen = withoutChecks(select(settings, IMAGE_SETTINGS))
  const inputs = {
    settings: chosen,
    rootfs: rootfs.stamp,
    epochSeconds: rootfs.epochSeconds,
    code: codeDigest(['image-builder', 'image-builder/filesystem', 'scripts']),
  }
  const key = fingerprint(inputs)
  if (given.has('w')) {
    tellOutput('image', output, key, inputs)
    return
  }
  if (isCurrent(output, key)) {
    report('IMAGE', basename(output), 'unchanged')
    return
  }
  // Asked for now, they are there when the plan needs them.
  const xattrs = readXattrs(rootfs.folder)
  xattrs.catch(() => undefined)
  checkSource(settings, rootfs)
  await withLock(workspace, output, 'exclusive', () =>
    withLock(workspace, rootfs.folder, 'shared', async () => {
      removeLeftovers(workspace)
      const made = await withTemporary(output, async (temporary) => {
        // Its thread starts while the image is planned.
        const hash = hashBehind(temporary)
        try {
          const image = await planImage(chosen, rootfs, xattrs)
          const digest = await writeImage(temporary, image, hash)
          const result = describeImage(temporary, digest, image, rootfs)
          const manifest = {
            format: 'osbuilder-manifest-1',
            kind: 'image',
            name: basename(output),
            fingerprint: key,
            inputs,
            result,
          } as const
          writeManifest(output, temporary, manifest, outputStamp(temporary))
          return image
        } finally {
          await hash.stop()
        }
      })
      const size = bytes(made.layout.imageBytes)
      const used = bytes(made.plan.sizeBytes - made.plan.freeBytes)
      report(
        'IMAGE',
        basename(output),
        `${size} ${chosen.FS_TYPE}, ${used} used`,
        seconds(Date.now() - startMs),
      )
    }),
  )
}

interface PlannedImage {
  readonly layout: ImageLayout
  readonly plan: Ext4Plan
  readonly uuid: string
  readonly diskSignature: number
}

/** Decide every byte's place: the smallest size the rules allow, computed once. */
async function planImage(
  settings: ImageSettings,
  rootfs: SourceRootfs,
  xattrs: ReturnType<typeof readXattrs>,
): Promise<PlannedImage> {
  // Everything that must differ between two images and be the same for one follows from its content.
  const seed = contentFingerprint(rootfs, { ...settings })
  const additions = commonAdditions(rootfs.entries, rootfs.epochSeconds)
  const entries = withEntries(await withXattrs(rootfs.folder, rootfs.entries, xattrs), additions)
  const uuid = uuidFrom(`${seed} filesystem`)
  const diskSignature = parseInt(sha256(`${seed} disk`).slice(0, 8), 16)
  const blockSizeBytes = Number(settings.BLOCK_SIZE) as 1024 | 2048 | 4096
  const overhead = overheadBytes(!settings.SKIP_DAX_HEADER)
  const neededBytes =
    overhead +
    minimumExt4Bytes(entries, {
      blockSizeBytes,
      freeBytes: (settings.ROOT_FREE_SPACE ?? 0) * MIB,
      epochSeconds: rootfs.epochSeconds,
    })
  const imageBytes = imageSize(settings, neededBytes)
  const layout = layoutImage({ imageBytes, daxHeader: !settings.SKIP_DAX_HEADER, diskSignature })
  const plan = planExt4(entries, {
    sizeBytes: layout.filesystemBytes,
    blockSizeBytes,
    uuid,
    hashSeed: uuidFrom(`${seed} names`),
    epochSeconds: rootfs.epochSeconds,
  })
  return { layout, plan, uuid, diskSignature }
}

/** IMG_SIZE when it is given and large enough, else what is needed, aligned. Unit: bytes. */
function imageSize(settings: ImageSettings, neededBytes: number): number {
  if (settings.IMG_SIZE === undefined)
    return roundUp(neededBytes, (settings.IMAGE_SIZE_ALIGNMENT_MB ?? 1) * MIB)
  if (settings.IMG_SIZE * MIB >= neededBytes) return settings.IMG_SIZE * MIB
  throw new BuildError('E_CONFIG', `IMG_SIZE=${String(settings.IMG_SIZE)}: the rootfs does not fit`, {
    because: [
      `it needs ${String(Math.ceil(neededBytes / MIB))} MiB with ROOT_FREE_SPACE=${String(settings.ROOT_FREE_SPACE ?? 0)}`,
    ],
    hint: `make IMG_SIZE=${String(Math.ceil(neededBytes / MIB))} image    or leave IMG_SIZE out`,
  })
}

/** A version 4 UUID made from a text instead of from chance. */
function uuidFrom(text: string): string {
  const hex = sha256(text)
  const variant = ((parseInt(hex.slice(16, 17), 16) & 0x3) | 0x8).toString(16)
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `4${hex.slice(13, 16)}`,
    `${variant}${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ].join('-')
}

/** Returns the sha256 of the image. */
async function writeImage(file: string, { layout, plan }: PlannedImage, hash: HashBehind): Promise<string> {
  const descriptor = openSync(file, 'wx', 0o644)
  try {
    ftruncateSync(descriptor, layout.imageBytes)
    for (const piece of layout.pieces)
      writeSync(descriptor, piece.bytes, 0, piece.bytes.length, piece.offsetBytes)
    hash.reach(layout.filesystemOffsetBytes)
    writeExt4(descriptor, layout.filesystemOffsetBytes, plan, hash)
    hash.hole(layout.imageBytes)
    return await hash.digest(layout.imageBytes)
  } finally {
    closeSync(descriptor)
  }
}

function describeImage(file: string, digest: string, image: PlannedImage, rootfs: SourceRootfs) {
  const { layout, plan } = image
  return {
    sha256: digest,
    sizeBytes: layout.imageBytes,
    allocatedBytes: statSync(file).blocks * 512,
    filesystem: {
      uuid: image.uuid,
      offsetBytes: layout.filesystemOffsetBytes,
      sizeBytes: layout.filesystemBytes,
      freeBytes: plan.freeBytes,
    },
    diskSignature: image.diskSignature.toString(16).padStart(8, '0'),
    rootfs: describeRootfs(rootfs),
  }
}
