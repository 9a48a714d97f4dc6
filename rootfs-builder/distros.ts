// SPDX-License-Identifier: Apache-2.0
import { ARCH_NAMES } from '../scripts/arch.ts'
import type { ArchName } from '../scripts/arch.ts'
import { checkDracutSettings } from '../dracut/dracut.ts'
import { thisHost } from '../dracut/host.ts'
import { hostArch, oneOf } from '../scripts/settings.ts'
import type { Settings } from '../scripts/settings.ts'
import { alpine } from './alpine/distro.ts'
import { parseExtra } from './bootstrap/apk/extra.ts'
import { azurelinux } from './azurelinux/distro.ts'
import { centos } from './centos/distro.ts'
import { clearlinux } from './clearlinux/distro.ts'
import { debian } from './debian/distro.ts'
import type { Distro, Release } from './distro.ts'
import { fedora } from './fedora/distro.ts'
import { opensuse } from './opensuse/distro.ts'
import { photon } from './photon/distro.ts'
import { ubuntu } from './ubuntu/distro.ts'

/** Every distro there is, in the order of `make list-distros`. */
export const DISTROS: readonly Distro[] = [
  alpine,
  centos,
  clearlinux,
  debian,
  ubuntu,
  azurelinux,
  fedora,
  opensuse,
  photon,
]

export interface Choice {
  readonly distro: Distro
  readonly release: Release
  readonly arch: ArchName
}

/** The guest's architecture: ARCH, or the host's. */
export function archOf(settings: Pick<Settings, 'ARCH'>): ArchName {
  return settings.ARCH === 'host' ? hostArch() : settings.ARCH
}

/** Who installs the packages of the chosen guest; undefined for a distro that there is none of. */
export function managerOf({
  DISTRO,
  BUILD_METHOD,
}: Pick<Settings, 'DISTRO' | 'BUILD_METHOD'>): Distro['packageManager'] | undefined {
  if (BUILD_METHOD === 'dracut') return 'dracut'
  return DISTROS.find(({ name }) => name === DISTRO)?.packageManager
}

/** Problems of the chosen combination of distro, release, architecture and init, one line each. */
export function checkChoice(settings: Settings): string[] {
  if (settings.BUILD_METHOD === 'dracut') return checkDracutSettings(settings)
  const distro = DISTROS.find(({ name }) => name === settings.DISTRO)
  if (distro === undefined) {
    const names = DISTROS.map(({ name }) => name)
    return [`DISTRO=${settings.DISTRO}: expected ${oneOf(names)}; type DISTRO=${String(names[0])}`]
  }
  return [
    ...(releaseOf(distro, settings.OS_VERSION) === undefined
      ? [`OS_VERSION=${settings.OS_VERSION}: ${distro.name} supports ${releaseNames(distro)}`]
      : []),
    ...(distro.arches[archOf(settings)] === undefined
      ? [`ARCH=${archOf(settings)}: ${distro.name} supports ${oneOf(Object.keys(distro.arches))}`]
      : []),
    ...(distro.initModes.includes(settings.AGENT_INIT ? 'agent' : 'systemd')
      ? []
      : [wrongInit(distro, settings.AGENT_INIT)]),
    ...repositoryProblems(distro, settings),
    ...rpmProblems(distro, settings),
  ]
}

/** Problems of the settings that only distros with dnf have. */
function rpmProblems(distro: Distro, settings: Settings): string[] {
  const isDnf = distro.packageManager === 'dnf'
  const hasPolicy = (one: Distro): boolean => one.packages.some(({ when }) => when?.selinux === true)
  const withPolicy = DISTROS.filter(hasPolicy).map(({ name }) => name)
  return [
    ...(settings.DISTRO_REPO && !isDnf
      ? [`DISTRO_REPO=yes: is for distros with dnf; ${distro.name} has ${distro.packageManager}`]
      : []),
    ...(settings.SELINUX && !hasPolicy(distro)
      ? [
          `SELINUX=yes: ${distro.name} has no policy for containers; type DISTRO=${withPolicy.join(' or DISTRO=')}`,
        ]
      : []),
    ...(settings.SELINUX && hasPolicy(distro) && settings.AGENT_INIT
      ? ['SELINUX=yes: systemd loads the policy; type AGENT_INIT=no']
      : []),
    ...(isDnf && distro.keyring === '' && settings.REPO_KEYRING === '' && !settings.DISTRO_REPO
      ? [
          `REPO_KEYRING=: there is no key of ${distro.name} here, see rootfs-builder/${distro.name}/keys/README.md; type REPO_KEYRING=file`,
        ]
      : []),
  ]
}

/** Problems of the settings that only apk's repositories have. */
function repositoryProblems(distro: Distro, settings: Settings): string[] {
  if (distro.packageManager === 'apk') {
    const wrong = settings.REPO_EXTRA.filter((word) => parseExtra(word) === undefined)
    return wrong.map((word) => `REPO_EXTRA=${word}: expected http://… or @tag=http://…`)
  }
  const where = `is for distros with apk; ${distro.name} has ${distro.packageManager}`
  return [
    ...(settings.REPO_KEY === '' ? [] : [`REPO_KEY=${settings.REPO_KEY}: ${where}, type REPO_KEYRING=…`]),
    ...(settings.REPO_EXTRA.length === 0 ? [] : [`REPO_EXTRA=${settings.REPO_EXTRA.join(' ')}: ${where}`]),
  ]
}

function wrongInit(distro: Distro, agentInit: boolean): string {
  return agentInit
    ? `AGENT_INIT=yes: ${distro.name} is made for systemd; type AGENT_INIT=no`
    : `AGENT_INIT=no: ${distro.name} has no systemd to start the agent; type AGENT_INIT=yes, or leave it out`
}

/** The chosen distro, release and architecture; call after `checkChoice` found no problem. */
export function choose(settings: Settings): Choice {
  if (settings.BUILD_METHOD === 'dracut') return hostChoice()
  const distro = DISTROS.find(({ name }) => name === settings.DISTRO)
  const release = distro === undefined ? undefined : releaseOf(distro, settings.OS_VERSION)
  if (distro === undefined || release === undefined) throw new TypeError('settings were not checked')
  return { distro, release, arch: archOf(settings) }
}

/** This host in the place of a distro. */
function hostChoice(): Choice {
  const { id, version, title } = thisHost()
  const release = { name: `${id}-${version}`, version }
  const arch = hostArch()
  const distro: Distro = {
    name: 'dracut',
    title,
    packageManager: 'dracut',
    releases: [release],
    defaultRelease: release.name,
    mirror: '',
    keyring: '',
    arches: { [arch]: arch },
    initModes: ['systemd', 'agent'],
    packages: [],
  }
  return { distro, release, arch }
}

/** A release by its name or its version number; the default one for the empty text. */
function releaseOf(distro: Distro, wanted: string): Release | undefined {
  const name = wanted === '' ? distro.defaultRelease : wanted
  const [first] = distro.releases
  if (distro.latestFile !== undefined && first !== undefined && /^\d+$/.test(name))
    return { ...first, name, version: name }
  return distro.releases.find((release) => release.name === name || release.version === name)
}

function releaseNames(distro: Distro): string {
  const names = distro.releases.map(({ name, version }) => (name === version ? name : `${name} (${version})`))
  return oneOf(distro.latestFile === undefined ? names : [...names, 'a number'])
}

/** A warning when a release no longer gets security updates, else undefined. `today` is `YYYY-MM-DD`. */
export function endOfLifeWarning({ distro, release }: Choice, today: string): string | undefined {
  if (release.endOfLife === undefined || release.endOfLife >= today) return undefined
  return `${distro.title} ${release.name} has had no security updates since ${release.endOfLife}`
}

/** The distros for people, in lines of at most 80 columns: releases with their ends, the default first. */
export function distroTable(): string {
  return DISTROS.flatMap(({ name, releases, defaultRelease, initModes, arches }) => {
    const first = releases.filter((release) => release.name === defaultRelease)
    const others = releases.filter((release) => release.name !== defaultRelease)
    const supported = ARCH_NAMES.filter((arch) => arches[arch] !== undefined)
    const ends = [...first, ...others].map(({ name: release, version, endOfLife }) => {
      const number = version === release ? '' : ` (${version})`
      return `${release}${number}${endOfLife === undefined ? '' : ` until ${endOfLife}`}`
    })
    const lines = [
      `${ends[0] ?? ''}, the default`,
      ...ends.slice(1),
      `init: ${initModes.join(' ')}   arch: ${supported.join(' ')}`,
    ]
    return lines.map((line, index) => `${(index === 0 ? name : '').padEnd(12)}${line}`)
  }).join('\n')
}
