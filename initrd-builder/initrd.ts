// SPDX-License-Identifier: Apache-2.0
import { createWriteStream, statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'

import { commonAdditions, linkEntry } from '../scripts/additions.ts'
import { codeDigest, fingerprint, sha256File } from '../scripts/digest.ts'
import type { Json } from '../scripts/digest.ts'
import { BuildError } from '../scripts/errors.ts'
import { withLock } from '../scripts/lock.ts'
import { bytes, note, report, seconds } from '../scripts/log.ts'
import { isCurrent, outputStamp, tellOutput, writeManifest } from '../scripts/manifest.ts'
import type { Manifest } from '../scripts/manifest.ts'
import { startFilter } from '../scripts/pipes.ts'
import { requireTools } from '../scripts/run.ts'
import { readSettings, select } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import { systemdOf } from '../scripts/rootfs-check.ts'
import {
  SOURCE_SETTINGS,
  checkSource,
  describeRootfs,
  withRootfs,
  withoutChecks,
} from '../scripts/source-rootfs.ts'
import type { SourceRootfs } from '../scripts/source-rootfs.ts'
import { runStep } from '../scripts/step.ts'
import type { StepArguments } from '../scripts/step.ts'
import { withTemporary } from '../scripts/temporary.ts'
import { toolVersion } from '../scripts/tools.ts'
import { withEntries } from '../scripts/tree.ts'
import type { TreeEntry } from '../scripts/tree.ts'
import { openWorkspace, removeLeftovers } from '../scripts/workspace.ts'
import type { Workspace } from '../scripts/workspace.ts'
import { COMPRESSIONS, compressorArgv, partBytes } from './compress.ts'
import type { CompressionName } from './compress.ts'
import { addSegment, forgetBase, planSegment, rememberBase } from './dev-segment.ts'
import { newcEntries, newcSizeBytes } from './newc.ts'
import { packParts } from './pack-parts.ts'
import { packNewc } from './pack.ts'
import { cutParts, earlierParts, forgetParts, rememberParts } from './parts.ts'

const USAGE = `
Pack a rootfs into an initrd: a compressed cpio archive that the kernel unpacks into memory.

  initrd.js [-o FILE] [-p] [ROOTFS]

  -h       show this help
  -o FILE  initrd to write (default: kata-containers-initrd.img in IMAGES_BUILD_DEST)
  -p       plain: pack the folder as it is, without check, /init or device nodes
  -w       tell whether it would be built from the rootfs as it is, and why; nothing is built

ROOTFS is the folder to pack (default: ROOTFS_DIR, else that of DISTRO). It is only read.
Every other setting comes from the environment; "make help" lists them.
`

const INITRD_SETTINGS = [...SOURCE_SETTINGS, 'DEV', 'INITRD_COMPRESSION', 'INITRD_COMPRESSION_LEVEL'] as const

await runStep({
  name: 'initrd',
  usage: USAGE,
  valueFlags: ['o'],
  switches: ['p', 'w'],
  needsOwners: true,
  container: { step: 'initrd', pathFlags: ['o'], positionalPaths: true },
  main,
})

/** A compressor's level must be one it has. */
function checkLevel(settings: Settings): string[] {
  const level = settings.INITRD_COMPRESSION_LEVEL
  if (level === undefined) return []
  try {
    compressorArgv(settings.INITRD_COMPRESSION, level)
    return []
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
    return [`INITRD_COMPRESSION_LEVEL=${String(level)}: ${error.message}`]
  }
}

async function main(given: StepArguments): Promise<void> {
  const settings = readSettings({}, [checkLevel])
  const workspace = openWorkspace(settings)
  const output = resolve(given.text('o') ?? join(workspace.imagesDest, 'kata-containers-initrd.img'))
  const folder = given.positional[0]
  const request = {
    settings,
    workspace,
    output,
    plain: given.has('p'),
    isAsked: given.has('w'),
    startMs: Date.now(),
  }
  let code = ''
  await withRootfs(
    settings,
    workspace,
    folder === undefined ? undefined : resolve(folder),
    (rootfs) => packInitrd({ ...request, code }, rootfs),
    () => {
      code = codeDigest(['initrd-builder', 'scripts'])
    },
  )
}

interface Request {
  readonly settings: Settings
  readonly workspace: Workspace
  readonly output: string
  /** Digest of the code that packs. */
  readonly code: string
  /** Add nothing to the rootfs. */
  readonly plain: boolean
  /** Only tell what would be done. */
  readonly isAsked: boolean
  readonly startMs: number
}

async function packInitrd(request: Request, rootfs: SourceRootfs): Promise<void> {
  const { settings, workspace, output, code, plain, isAsked, startMs } = request
  const compression = settings.INITRD_COMPRESSION
  const argv = compressorArgv(compression, settings.INITRD_COMPRESSION_LEVEL)
  const others = {
    settings: withoutChecks(select(settings, INITRD_SETTINGS)),
    plain,
    epochSeconds: rootfs.epochSeconds,
    code,
    tools: argv === undefined ? {} : { [argv[0]]: await toolVersion(argv[0], workspace.cacheDir) },
  }
  const inputs = { ...others, rootfs: rootfs.stamp }
  const key = fingerprint(inputs)
  if (isAsked) {
    tellOutput('initrd', output, key, inputs)
    return
  }
  if (isCurrent(output, key)) {
    report('INITRD', basename(output), 'unchanged')
    return
  }
  if (argv !== undefined) requireTools([argv[0]])
  const entries = plain ? rootfs.entries : guestEntries(settings, rootfs)
  await withLock(workspace, output, 'exclusive', async () => {
    removeLeftovers(workspace)
    const finish = (file: string, more: { readonly [key: string]: Json }): void => {
      const sizeBytes = statSync(file).size
      const result = { sha256: sha256File(file), sizeBytes, ...more, rootfs: describeRootfs(rootfs) }
      const manifest: Manifest = {
        format: 'osbuilder-manifest-1',
        kind: 'initrd',
        name: basename(output),
        fingerprint: key,
        inputs,
        result,
      }
      writeManifest(output, file, manifest, outputStamp(file))
    }
    const tell = (what: string): void => {
      report('INITRD', basename(output), what, seconds(Date.now() - startMs))
    }
    const segment = settings.DEV ? planSegment(output, fingerprint(others), entries) : undefined
    if (segment !== undefined) {
      const changed = segment.entries.length
      await addSegment(output, segment, rootfs.epochSeconds, (file) => {
        finish(file, { development: { baseBytes: segment.base.sizeBytes, changed } })
      })
      tell(`${String(changed)} changed entries added, for trying out only`)
      return
    }
    await withTemporary(output, async (temporary) => {
      const { sizeBytes: unpackedBytes } = await pack(entries, temporary, {
        output,
        argv,
        partBytes: partBytes(compression, settings.INITRD_COMPRESSION_LEVEL),
        epochSeconds: rootfs.epochSeconds,
        inputs: fingerprint({ ...others, folder: rootfs.folder }),
      })
      finish(temporary, { unpackedBytes })
      if (settings.DEV) rememberBase(output, temporary, fingerprint(others), entries)
      else forgetBase(output)
      tell(`${bytes(statSync(temporary).size)} ${compression}`)
    })
    if (!plain) adviseCompression(compression)
  })
}

/** The rootfs with what the kernel needs to start it: `/init` and the device nodes. */
function guestEntries(settings: Settings, rootfs: SourceRootfs): TreeEntry[] {
  checkSource(settings, rootfs)
  const additions = commonAdditions(rootfs.entries, rootfs.epochSeconds)
  const hasInit = rootfs.entries.some(({ path }) => path === 'init')
  if (!hasInit) {
    const target = settings.AGENT_INIT ? '/sbin/init' : systemdOf(rootfs.entries)
    additions.push(linkEntry('init', target, rootfs.epochSeconds))
  }
  return withEntries(rootfs.entries, additions)
}

interface PackRequest {
  /** Name the initrd will have. */
  readonly output: string
  readonly argv: readonly [string, ...string[]] | undefined
  readonly partBytes: number | undefined
  readonly epochSeconds: number
  /** Digest of all inputs but the entries. */
  readonly inputs: string
}

/** Pack and compress at once: the archive itself is never on disk. */
async function pack(
  entries: readonly TreeEntry[],
  file: string,
  { output, argv, partBytes, epochSeconds, inputs }: PackRequest,
): Promise<{ sizeBytes: number }> {
  if (argv !== undefined && partBytes !== undefined) {
    const described = newcEntries(entries, { epochSeconds })
    const parts = cutParts(entries, described, partBytes)
    const earlier = { file: output, parts: earlierParts(output, inputs) }
    rememberParts(output, file, inputs, await packParts(file, { parts, argv, earlier }))
    return { sizeBytes: newcSizeBytes(described) }
  }
  forgetParts(output)
  if (argv === undefined) return packNewc(entries, createWriteStream(file, { flags: 'wx' }), { epochSeconds })
  const compressor = startFilter(argv, file)
  const packed = packNewc(entries, compressor.stdin, { epochSeconds })
  // The compressor's own message says more than the broken pipe that follows from its end.
  const [ended, written] = await Promise.allSettled([compressor.done, packed])
  if (ended.status === 'rejected') throw ended.reason
  if (written.status === 'rejected') throw written.reason
  return written.value
}

function adviseCompression(compression: CompressionName): void {
  if (compression !== 'gzip') return
  note(
    `gzip suits every guest kernel; with ${COMPRESSIONS.zstd.kernelSymbol}=y in yours, ` +
      'INITRD_COMPRESSION=zstd is smaller and faster',
  )
}
