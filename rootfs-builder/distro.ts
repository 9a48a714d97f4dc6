// SPDX-License-Identifier: Apache-2.0
import type { Suite } from '../scripts/apt-index.ts'
import type { ArchName } from '../scripts/arch.ts'
import type { RpmRepository } from './bootstrap/dnf/config.ts'

/** What a package rule may depend on. */
export interface Features {
  readonly agentInit: boolean
  readonly seccomp: boolean
  readonly selinux: boolean
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
  /** Part of the addresses of the repositories of apk and dnf, where it is not the name. */
  readonly path?: string
  /** Suites of an apt distro, the main one first; absent: the distro's own list. */
  readonly suites?: readonly Suite[]
  /** As the distro's, where a release differs. */
  readonly rpmDatabase?: string
  /** It has `usr-is-merged` to choose instead of `usrmerge`: see bootstrap/merged-usr.ts. */
  readonly choosesMergedUsr?: true
}

/** A distro is data: names, mirrors, keys and package rules, each with its reason. */
export interface Distro {
  readonly name: string
  readonly title: string
  readonly packageManager: 'apt' | 'apk' | 'dnf' | 'dracut'
  readonly releases: readonly Release[]
  readonly defaultRelease: string
  readonly mirror: string
  /** Mirrors of architectures that the main one lacks. */
  readonly archMirrors?: Readonly<Partial<Record<ArchName, string>>>
  /** Of an apt distro; `{release}` and `{mirror}` stand for the chosen ones. */
  readonly suites?: readonly Suite[]
  /** Of a dnf distro; `{mirror}`, `{release}`, `{path}` and `{arch}` stand for the chosen ones. */
  readonly repositories?: readonly RpmRepository[]
  /** Path of rpm's database in a guest (default: var/lib/rpm). */
  readonly rpmDatabase?: string
  /** Any number is a release, and this file of the mirror names the latest one. */
  readonly latestFile?: string
  /** What a user is told at every build. */
  readonly warning?: string
  /** Keyring of an apt distro, folder of the keys of an apk or dnf distro; empty where no key is known. */
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

/** The repositories of a release of a dnf distro, with addresses filled in. */
export function repositoriesOf(
  { distro, release, arch }: { readonly distro: Distro; readonly release: Release; readonly arch: ArchName },
  mirror: string,
  version: string,
): RpmRepository[] {
  const fill = (text: string): string =>
    text
      .replaceAll('{mirror}', mirror)
      .replaceAll('{release}', version)
      .replaceAll('{path}', release.path ?? release.name)
      .replaceAll('{arch}', distro.arches[arch] ?? arch)
  return (distro.repositories ?? []).map((row) => ({ ...row, url: fill(row.url) }))
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
