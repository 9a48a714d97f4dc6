// SPDX-License-Identifier: Apache-2.0
import { existsSync, lstatSync, readFileSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import type { Json } from './digest.ts'
import { BuildError } from './errors.ts'
import { writeWhole } from './temporary.ts'
import { changedInputs, tellStage } from './why.ts'

/** What is written beside every output, as `<output>.json`. */
export interface Manifest {
  readonly format: 'osbuilder-manifest-1'
  readonly kind: 'rootfs' | 'image' | 'initrd' | 'kernel'
  readonly name: string
  /** Digest of `inputs`: the same inputs give the same fingerprint. */
  readonly fingerprint: string
  /** Everything that can change the output: settings, files, code, tools. */
  readonly inputs: { readonly [key: string]: Json }
  /** What came out: digests, sizes, packages. */
  readonly result: { readonly [key: string]: Json }
}

/** What a step remembers of an output on this machine. */
export interface OutputState {
  readonly fingerprint: string
  /** Inode of the output, which it keeps when it is renamed. */
  readonly inode: string
  /** What tells that nobody changed the output since. */
  readonly stamp: string
  /** Why it was built, in words. */
  readonly why?: readonly string[]
}

/** Path of the manifest of an output. */
export function manifestPath(output: string): string {
  return `${output}.json`
}

/** What this machine remembers of an output, by the ending of the hidden file beside it. */
const REMEMBERED = ['state', 'listing', 'dev', 'parts'] as const

/** The hidden file beside an output in which that is remembered. */
export function rememberedPath(output: string, what: (typeof REMEMBERED)[number]): string {
  return join(dirname(output), `.${basename(output)}.${what}`)
}

/**
 * What is remembered as JSON, or undefined: a full disk or a power cut may have left the file empty or
 * half-written, and then nothing is remembered.
 */
export function readRemembered(output: string, what: (typeof REMEMBERED)[number]): unknown {
  const file = rememberedPath(output, what)
  if (!existsSync(file)) return undefined
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

/**
 * The manifest of an output, or undefined when there is none.
 *
 * @throws BuildError E_DIGEST when the file is no JSON
 */
export function readManifest(output: string): Manifest | undefined {
  const file = manifestPath(output)
  if (!existsSync(file)) return undefined
  const value = parse(file)
  return isManifest(value) ? value : undefined
}

function parse(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as unknown
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw new BuildError('E_DIGEST', `${file}: is cut short, or somebody changed it`, {
      because: [error.message],
      hint: `rm ${file}    and build it again; do not use what it tells of`,
      cause: error,
    })
  }
}

function isManifest(value: unknown): value is Manifest {
  return (
    typeof value === 'object' &&
    value !== null &&
    'format' in value &&
    value.format === 'osbuilder-manifest-1'
  )
}

/**
 * What is remembered of the output that now has the name, or undefined.
 *
 * The state is written before the output gets its name, so that a crash in between leaves no output
 * of unknown origin; the file therefore remembers the one before as well.
 */
export function readState(output: string): OutputState | undefined {
  const inode = lstatSync(output, { bigint: true, throwIfNoEntry: false })?.ino.toString()
  return readStates(output).find((state) => state.inode === inode)
}

function readStates(output: string): readonly OutputState[] {
  return (readRemembered(output, 'state') ?? []) as OutputState[]
}

/** What `make sbom` writes beside an output, by its ending. */
export const DESCRIPTIONS = {
  cyclonedx: '.cdx.json',
  spdx: '.spdx.json',
  provenance: '.intoto.json',
} as const

/** Endings of signatures: OpenSSH's and minisign's. */
export const SIGNATURES = ['.sig', '.minisig'] as const

/** Every file that tells of an output's bytes and is not made with it: descriptions and signatures. */
function proofsOf(output: string): string[] {
  const described = Object.values(DESCRIPTIONS).map((ending) => `${output}${ending}`)
  const signed = [output, manifestPath(output), ...described]
  return [...described, ...signed.flatMap((file) => SIGNATURES.map((ending) => `${file}${ending}`))]
}

/** File beside a rootfs that lists it as it was built. */
export function listingPath(output: string): string {
  return rememberedPath(output, 'listing')
}

/** Write manifest and state of a complete output that still has its temporary name. */
export function writeManifest(output: string, temporary: string, manifest: Manifest, stamp: string): void {
  const last = readManifest(output)
  const why = last === undefined ? ['its first build'] : changedInputs(last.inputs, manifest.inputs)
  writeState(output, temporary, { fingerprint: manifest.fingerprint, stamp, why })
  // What was said and signed of other bytes is no proof of these.
  for (const file of proofsOf(output)) rmSync(file, { force: true })
  writeWhole(manifestPath(output), `${JSON.stringify(manifest, null, 2)}\n`)
}

/** Remember an output that still has its temporary name, beside the one that has the name. */
export function writeState(output: string, temporary: string, state: Omit<OutputState, 'inode'>): void {
  const inode = lstatSync(temporary, { bigint: true }).ino.toString()
  const current = readState(output)
  const states = [{ ...state, inode }, ...(current === undefined ? [] : [current])]
  writeWhole(rememberedPath(output, 'state'), `${JSON.stringify(states satisfies OutputState[])}\n`)
}

/** Size and time of a file, which change when somebody writes it. */
export function outputStamp(file: string): string {
  const { size, mtimeNs } = lstatSync(file, { bigint: true })
  return `${String(size)}:${String(mtimeNs)}`
}

/** True when the output is there, was made from these inputs, and nobody changed it since. */
export function isCurrent(output: string, fingerprint: string): boolean {
  const state = readState(output)
  return (
    existsSync(manifestPath(output)) &&
    state !== undefined &&
    state.fingerprint === fingerprint &&
    state.stamp === outputStamp(output)
  )
}

/** Tell for `make why` whether a packed output would be built again, and which of its inputs changed. */
export function tellOutput(stage: string, output: string, key: string, inputs: Manifest['inputs']): void {
  if (isCurrent(output, key)) {
    tellStage(stage, 'reused', [`last built for: ${(readState(output)?.why ?? []).join('; ')}`])
    return
  }
  const last = readManifest(output)
  const changed = last === undefined ? ['its first build'] : changedInputs(last.inputs, inputs)
  tellStage(stage, 'built', changed.length > 0 ? changed : ['somebody changed or removed it'])
}

/** Every file that belongs to an output, itself first. */
export function filesOf(output: string): string[] {
  const remembered = REMEMBERED.map((what) => rememberedPath(output, what))
  return [output, manifestPath(output), ...remembered, ...proofsOf(output)]
}
