// SPDX-License-Identifier: Apache-2.0
import { findEntry } from '../scripts/cache.ts'
import type { Json } from '../scripts/digest.ts'
import { readManifest, readState } from '../scripts/manifest.ts'
import { changedInputs, tellStage } from '../scripts/why.ts'
import type { BasePlan } from './bootstrap/plan.ts'
import { findDelta } from './delta.ts'
import { baseFingerprint, rootfsFingerprint } from './inputs.ts'
import type { RootfsInputs } from './inputs.ts'

/** The stages up to the rootfs, and for each that would be made anew the inputs that changed. */
export function tellWhy(output: string, cacheDir: string, plan: BasePlan, inputs: RootfsInputs): void {
  const last = readManifest(output)?.inputs as RootfsInputs | undefined
  const because = (part: (of: RootfsInputs) => Json): string[] =>
    last === undefined ? ['its first build'] : changedInputs(part(last), part(inputs))
  const minutes = Math.round((Date.now() - plan.checkedAtMs) / 60_000)
  tellStage('index', minutes > 0 ? 'reused' : 'asked', [`asked ${String(minutes)} min ago`])

  const baseKey = baseFingerprint(inputs)
  const isBaseKept = findEntry(cacheDir, 'base', baseKey) !== undefined
  const baseChanges = because(({ base }) => ({ base }))
  if (isBaseKept) tellStage('base', 'reused', [])
  else tellStage('base', 'built', baseChanges.length > 0 ? baseChanges : ['it is not in the cache any more'])

  const key = rootfsFingerprint(inputs)
  const state = readState(output)
  if (state?.fingerprint === key) {
    tellStage('provisioned', 'reused', [`last built for: ${(state.why ?? []).join('; ')}`])
    return
  }
  const changes = because((all) => ({ ...all, base: undefined }))
  const all = last !== undefined && baseChanges.length > 0 ? ['its base tree changed', ...changes] : changes
  tellStage('provisioned', findDelta(cacheDir, key, baseKey) === undefined ? 'built' : 'reused', all)
}
