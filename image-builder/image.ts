// SPDX-License-Identifier: Apache-2.0
import { closeSync, ftruncateSync, mkdirSync, openSync, statSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'

import { commonAdditions } from '../scripts/additions.ts'
import { codeDigest, fingerprint, sha256 } from '../scripts/digest.ts'
import { hashBehind } from '../scripts/hash-behind.ts'
import type { HashBehind } from '../scripts/hash-behind.ts'
import { withLock } from '../scripts/lock.ts'
import { bytes, note, report, seconds } from '../scripts/log.ts'
import { isCurrent, outputStamp, tellOutput, writeManifest } from '../scripts/manifest.ts'
import { requireTools } from '../scripts/run.ts'
import { readSettings, select } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import {
  checkSource,
  withoutChecks,
  contentFingerprint,
  describeRootfs,
  withRootfs,
} from '../scripts/source-rootfs.ts'
import type { SourceRootfs } from '../scripts/source-rootfs.ts'
import { runStep } from '../scripts/step.ts'
import type { StepArguments } from '../scripts/step.ts'
import { discard, temporaryFor, withTemporary } from '../scripts/temporary.ts'
import { toolVersion } from '../scripts/tools.ts'
import { withEntries } from '../scripts/tree.ts'
import { openWorkspace, removeLeftovers } from '../scripts/workspace.ts'
import type { Workspace } from '../scripts/workspace.ts'
import { readXattrs, withXattrs } from '../scripts/xattrs.ts'
import { writeAll } from '../scripts/write-all.ts'
import { FILESYSTEMS } from './filesystem/filesystem.ts'
import type { FilesystemType, PlacedFilesystem, Prepare } from './filesystem/filesystem.ts'
import { IMAGE_SETTINGS, checkImageSettings, checkKernel, compressionOf } from './image-settings.ts'
import type { ImageSettings } from './image-settings.ts'
import { layoutImage } from './layout.ts'
import type { ImageLayout } from './layout.ts'
import { imageSizes } from './measure.ts'
import {
  checkSigning,
  describeVerity,
  isRootHashCurrent,
  removeOldRootHash,
  rootHashFiles,
  signingInputs,
  writeRootHash,
} from './root-hash.ts'
import type { RootHashFiles } from './root-hash.ts'
import { treeBytes } from './verity.ts'
import type { VerityFacts } from './verity.ts'
import { writeTree } from './verity-tree.ts'

const USAGE = `
Pack a rootfs into a disk image.

  image.js [-f TYPE] [-o FILE] [-r MIB] [ROOTFS]

  -f TYPE  filesystem of the image: ext4, xfs, erofs or squashfs (FS_TYPE)
  -h       show this help
  -o FILE  image to write (default: kata-containers.img in IMAGES_BUILD_DEST)
  -r MIB   free space to leave in the filesystem (ROOT_FREE_SPACE)
  -w       tell whether it would be built from the rootfs as it is, and why; nothing is built

ROOTFS is the folder to pack (default: ROOTFS_DIR, else that of DISTRO). It is only read.
Every other setting comes from the environment; "make help" lists them.
`

const MIB = 1024 * 1024

/** Loaded when it is needed: no image has two filesystems. */
const PREPARE: Readonly<Record<FilesystemType, () => Promise<Prepare>>> = {
  ext4: async () => (await import('./filesystem/make-ext4.ts')).prepareExt4,
  xfs: async () => (await import('./filesystem/make-xfs.ts')).prepareXfs,
  erofs: async () => (await import('./filesystem/make-erofs.ts')).prepareErofs,
  squashfs: async () => (await import('./filesystem/make-squashfs.ts')).prepareSquashfs,
}

await runStep({
  name: 'image',
  usage: USAGE,
  valueFlags: ['f', 'o', 'r'],
  switches: ['w'],
  needsOwners: true,
  container: { step: 'image', pathFlags: ['o'], positionalPaths: true },
  main,
})

async function main(given: StepArguments): Promise<void> {
  const overrides = { FS_TYPE: given.text('f'), ROOT_FREE_SPACE: given.text('r') }
  const settings = readSettings(overrides, [checkImageSettings])
  const workspace = openWorkspace(settings)
  const output = resolve(given.text('o') ?? join(workspace.imagesDest, 'kata-containers.img'))
  const folder = given.positional[0]
  const request = { settings, workspace, output, isAsked: given.has('w'), startMs: Date.now() }
  let code = ''
  await withRootfs(
    settings,
    workspace,
    folder === undefined ? undefined : resolve(folder),
    (rootfs) => packImage({ ...request, code }, rootfs),
    () => {
      code = codeDigest(['image-builder', 'image-builder/filesystem', 'scripts'])
    },
  )
}

interface Request {
  readonly settings: Settings
  readonly workspace: Workspace
  readonly output: string
  /** Digest of the code that packs. */
  readonly code: string
  /** Only tell what would be done. */
  readonly isAsked: boolean
  readonly startMs: number
}

async function packImage(request: Request, rootfs: SourceRootfs): Promise<void> {
  const { settings, workspace, output, code, isAsked, startMs } = request
  const chosen = chosenSettings(settings)
  const { tools } = FILESYSTEMS[settings.FS_TYPE]
  const inputs = {
    settings: chosen,
    rootfs: rootfs.stamp,
    epochSeconds: rootfs.epochSeconds,
    code,
    ...(settings.MEASURED_ROOTFS
      ? { variant: settings.BUILD_VARIANT, signing: signingInputs(settings) }
      : {}),
    ...(tools.length === 0 ? {} : { tools: await versionsOf(tools, workspace.cacheDir) }),
  }
  const key = fingerprint(inputs)
  if (isAsked) {
    tellOutput('image', output, key, inputs)
    return
  }
  if (isCurrent(output, key) && isRootHashCurrent(output)) {
    report('IMAGE', basename(output), 'unchanged')
    return
  }
  // Asked for now, they are there when the plan needs them.
  const xattrs = readXattrs(rootfs.folder)
  xattrs.catch(() => undefined)
  checkSource(settings, rootfs)
  checkKernel(settings)
  await checkSigning(settings)
  requireTools(tools, `sudo make FS_TYPE=${settings.FS_TYPE} setup image`)
  tellReadOnly(settings)
  const files = settings.MEASURED_ROOTFS ? rootHashFiles(output, settings.BUILD_VARIANT) : undefined
  await withLock(workspace, output, 'exclusive', async () => {
    removeLeftovers(workspace)
    const scratchDir = temporaryFor(`${output}.parts`)
    mkdirSync(dirname(output), { recursive: true })
    mkdirSync(scratchDir)
    const made = await withTemporary(output, async (temporary) => {
      // Its thread starts while the image is planned.
      const hash = hashBehind(temporary)
      try {
        const image = await planImage(chosen, rootfs, { xattrs, scratchDir })
        const written = await writeImage(temporary, image, hash)
        removeOldRootHash(output, files)
        if (files !== undefined && written.verity !== undefined)
          await writeRootHash(files, written.verity, settings)
        const result = describeImage({ file: temporary, image, rootfs, files, written, settings })
        const manifest = {
          format: 'osbuilder-manifest-1',
          kind: 'image',
          name: basename(output),
          fingerprint: key,
          inputs,
          result,
        } as const
        writeManifest(output, temporary, manifest, outputStamp(temporary))
        return { image, rootHash: written.verity?.rootHash }
      } finally {
        await hash.stop()
        discard(scratchDir)
      }
    })
    const { layout, placed } = made.image
    const kind = [chosen.FS_TYPE, ...[compressionOf(chosen)].filter((name) => name !== 'none')].join(' ')
    report(
      'IMAGE',
      basename(output),
      `${bytes(layout.imageBytes)} ${kind}, ${bytes(placed.usedBytes)} used`,
      seconds(Date.now() - startMs),
    )
    if (files !== undefined) report('VERITY', basename(files.line), made.rootHash ?? '')
  })
}

/** The settings that decide the bytes of this image: those of what is not asked for do not. */
function chosenSettings(settings: Settings): ImageSettings {
  const chosen = withoutChecks(select(settings, IMAGE_SETTINGS))
  return {
    ...chosen,
    FS_COMPRESSION: compressionOf(chosen),
    VERITY_SALT: chosen.MEASURED_ROOTFS ? chosen.VERITY_SALT : '',
  }
}

async function versionsOf(tools: readonly string[], cacheDir: string): Promise<Record<string, string>> {
  // Neither knows the usual flag.
  const versions = await Promise.all(
    tools.map((tool) => toolVersion(tool, cacheDir, tool === 'sqfstar' ? '-version' : '-V')),
  )
  return Object.fromEntries(tools.map((tool, index) => [tool, versions[index] ?? '']))
}

function tellReadOnly({ FS_TYPE, ROOT_FREE_SPACE }: Settings): void {
  if (!FILESYSTEMS[FS_TYPE].isReadOnly || (ROOT_FREE_SPACE ?? 0) === 0) return
  note(
    `ROOT_FREE_SPACE=${String(ROOT_FREE_SPACE)}: ${FS_TYPE} is read-only and has no free space; it is ignored`,
  )
}

interface PlannedImage {
  readonly layout: ImageLayout
  readonly placed: PlacedFilesystem
  readonly uuid: string
  readonly diskSignature: number
  readonly salt: string
}

/** Decide every byte's place: the smallest size the rules allow, computed once. */
async function planImage(
  settings: ImageSettings,
  rootfs: SourceRootfs,
  { xattrs, scratchDir }: { readonly xattrs: ReturnType<typeof readXattrs>; readonly scratchDir: string },
): Promise<PlannedImage> {
  const additions = commonAdditions(rootfs.entries, rootfs.epochSeconds)
  const entries = withEntries(await withXattrs(rootfs.folder, rootfs.entries, xattrs), additions)
  // Everything that must differ between two images and be the same for one follows from its content.
  const seed = contentFingerprint(rootfs, { ...settings })
  const uuid = settings.FS_UUID || uuidFrom(`${seed} filesystem`)
  const diskSignature = parseInt(settings.DISK_SIGNATURE || sha256(`${seed} disk`).slice(0, 8), 16)
  const { isReadOnly } = FILESYSTEMS[settings.FS_TYPE]
  const prepare = await PREPARE[settings.FS_TYPE]()
  const prepared = await prepare({
    entries,
    rootfsDir: rootfs.folder,
    blockSizeBytes: Number(settings.BLOCK_SIZE) as 1024 | 2048 | 4096,
    freeBytes: isReadOnly ? 0 : (settings.ROOT_FREE_SPACE ?? 0) * MIB,
    compression: compressionOf(settings),
    uuid,
    hashSeed: settings.FS_HASH_SEED || uuidFrom(`${seed} names`),
    epochSeconds: rootfs.epochSeconds,
    scratchDir,
    logFile: join(scratchDir, 'filesystem.log'),
  })
  const { imageBytes, hashBytes } = imageSizes(settings, prepared.neededBytes, isReadOnly)
  const layout = layoutImage({ imageBytes, daxHeader: !settings.SKIP_DAX_HEADER, diskSignature, hashBytes })
  const placed = prepared.place(layout.filesystemBytes)
  return { layout, placed, uuid, diskSignature, salt: settings.VERITY_SALT || sha256(`${seed} verity`) }
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

interface Written {
  readonly digest: string
  readonly verity: VerityFacts | undefined
}

/** Write the image, the hash tree after what it is about. */
async function writeImage(file: string, image: PlannedImage, hash: HashBehind): Promise<Written> {
  const { layout, placed, salt } = image
  const descriptor = openSync(file, 'wx', 0o644)
  try {
    ftruncateSync(descriptor, layout.imageBytes)
    for (const { bytes, offsetBytes } of layout.pieces) writeAll(descriptor, bytes, offsetBytes)
    hash.reach(layout.filesystemOffsetBytes)
    await placed.write(descriptor, layout.filesystemOffsetBytes, hash)
    hash.hole(layout.hashOffsetBytes)
    const verity = layout.hashBytes === 0 ? undefined : await writeTree(file, descriptor, layout, salt)
    if (verity !== undefined) hash.reach(layout.hashOffsetBytes + treeBytes(layout.filesystemBytes))
    hash.hole(layout.imageBytes)
    return { digest: await hash.digest(layout.imageBytes), verity }
  } finally {
    closeSync(descriptor)
  }
}

interface Described {
  readonly file: string
  readonly image: PlannedImage
  readonly rootfs: SourceRootfs
  readonly files: RootHashFiles | undefined
  readonly written: Written
  readonly settings: Settings
}

function describeImage({ file, image, rootfs, files, written, settings }: Described) {
  const { layout, placed } = image
  return {
    sha256: written.digest,
    sizeBytes: layout.imageBytes,
    allocatedBytes: statSync(file).blocks * 512,
    filesystem: {
      type: settings.FS_TYPE,
      compression: compressionOf(settings),
      uuid: image.uuid,
      offsetBytes: layout.filesystemOffsetBytes,
      sizeBytes: layout.filesystemBytes,
      freeBytes: placed.freeBytes,
    },
    diskSignature: image.diskSignature.toString(16).padStart(8, '0'),
    ...(files === undefined || written.verity === undefined
      ? {}
      : { verity: describeVerity(written.verity, layout, files) }),
    rootfs: describeRootfs(rootfs),
  }
}
