// SPDX-License-Identifier: Apache-2.0
import type { Suite } from '../scripts/apt-index.ts'
import type { ArchName } from '../scripts/arch.ts'

/** What a package rule may depend on. */
export interface Features {
  readonly agentInit: boolean
  readonly seccomp: boolean
}

export type InitMode = 'systemd' | 'agent'

export interface PackageRule {
  readonly packages: readonly string[]
  /** Install only when every listed feature has this value. Absent: always. */
  readonly when?: Partial<Features>
  /** Why the guest needs them; printed in the manifest. */
  readonly why: string
}

export interface Release {
  readonly name: string
  readonly version: string
  /** Last day with security updates, `YYYY-MM-DD`; absent while no day is set. */
  readonly endOfLife?: string
  /** Part of the addresses of an apk distro's repositories, where it is not the name. */
  readonly path?: string
  /** Suites of an apt distro, the main one first; absent: the distro's own list. */
  readonly suites?: readonly Suite[]
}

/** A distro is data: names, mirrors, keys and package rules, each with its reason. */
export interface Distro {
  readonly name: string
  readonly title: string
  readonly packageManager: 'apt' | 'apk' | 'dracut'
  readonly releases: readonly Release[]
  readonly defaultRelease: string
  readonly mirror: string
  /** Mirrors of architectures that the main one lacks. */
  readonly archMirrors?: Readonly<Partial<Record<ArchName, string>>>
  /** Of an apt distro; `{release}` and `{mirror}` stand for the chosen ones. */
  readonly suites?: readonly Suite[]
  /** Keyring of an apt distro, folder of the keys of an apk distro. */
  readonly keyring: string
  /** The distro's own names of the architectures it supports. */
  readonly arches: Readonly<Partial<Record<ArchName, string>>>
  readonly initModes: readonly InitMode[]
  readonly packages: readonly PackageRule[]
}

/** Packages the guest gets, in rule order, without duplicates. */
export function selectPackages(distro: Distro, features: Features, extra: readonly string[] = []): string[] {
  const chosen = distro.packages.filter(({ when = {} }) =>
    Object.entries(when).every(([key, value]) => features[key as keyof Features] === value),
  )
  return [...new Set([...chosen.flatMap((rule) => rule.packages), ...extra])]
}

/** The distro's own mirror for an architecture. */
export function mirrorOf(distro: Distro, arch: ArchName): string {
  return distro.archMirrors?.[arch] ?? distro.mirror
}

/** The suites of a release, with names and addresses filled in. */
export function suitesOf(distro: Distro, release: Release, mirror: string): Suite[] {
  const fill = (text: string): string =>
    text.replaceAll('{release}', release.name).replaceAll('{mirror}', mirror)
  return (release.suites ?? distro.suites ?? []).map((row) => ({
    ...row,
    suite: fill(row.suite),
    url: fill(row.url),
  }))
}
