// SPDX-License-Identifier: Apache-2.0
import { homedir } from 'node:os'
import { resolve } from 'node:path'

import { BuildError } from './errors.ts'
import { ARCHES } from './arch.ts'
import { SETTINGS } from './settings-table.ts'
import type { SettingName, SettingRow } from './settings-table.ts'

type ValueOf<Row extends SettingRow> = Row extends { type: 'boolean' }
  ? boolean
  : Row extends { type: 'integer' }
    ? number | undefined
    : Row extends { type: 'words' }
      ? readonly string[]
      : Row extends { type: 'choice'; allowed: readonly (infer Choice)[] }
        ? Choice
        : string

/** Every setting, checked and typed; a text that is not set is the empty string. */
export type Settings = { readonly [Name in SettingName]: ValueOf<(typeof SETTINGS)[Name]> }

/** Environment-like input: what the user exported or gave to make, plus what flags override. */
export type RawSettings = Readonly<Record<string, string | undefined>>

/** A check over several settings; returns one line per problem, in the form `NAME=value: what is wrong`. */
export type SettingsCheck = (settings: Settings) => readonly string[]

/** Settings that tools know by their lower-case names. */
export const PROXIES: ReadonlySet<string> = new Set<string>(['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'])

/** Stands for a distro where dracut takes the guest from this host; names of files follow from it. */
const FROM_HOST = 'dracut'

const YES = new Set(['yes', 'true', '1', 'y', 'on'])
const NO = new Set(['no', 'false', '0', 'n', 'off'])

/**
 * Read all settings at once.
 *
 * @param overrides values of command-line flags, which win over the environment
 * @throws BuildError E_CONFIG listing every problem found
 */
export function readSettings(overrides: RawSettings = {}, checks: readonly SettingsCheck[] = []): Settings {
  return parseSettings({ ...process.env, ...definedOnly(overrides) }, checks)
}

/** As readSettings, from the given values alone. */
export function parseSettings(given: RawSettings, checks: readonly SettingsCheck[] = []): Settings {
  const problems: string[] = []
  const values: Record<string, unknown> = {}
  // dracut takes the guest from this host, and names of files follow from its stand-in.
  const raw: RawSettings = given['BUILD_METHOD'] === 'dracut' ? { ...given, DISTRO: FROM_HOST } : given
  for (const [name, row] of Object.entries(SETTINGS) as [SettingName, SettingRow][]) {
    const text = (raw[name] || (PROXIES.has(name) ? raw[name.toLowerCase()] : '') || '').trim()
    const fallback = row.byDistro?.[raw['DISTRO'] ?? ''] ?? row.default
    const outcome = parseValue(text === '' ? fallback : text, row)
    if ('problem' in outcome) problems.push(`${name}=${text}: ${outcome.problem}`)
    else values[name] = outcome.value
  }
  if (problems.length === 0) {
    const settings = Object.freeze(values) as Settings
    for (const check of checks) problems.push(...check(settings))
    if (problems.length === 0) return settings
  } else {
    // A later check may still see the settings that are sound, so that one run tells everything.
    for (const check of checks) problems.push(...checkSound(check, values))
  }
  throw new BuildError(
    'E_CONFIG',
    `settings: ${String(problems.length)} ${problems.length === 1 ? 'problem' : 'problems'}`,
    {
      because: problems,
      hint: 'make help    lists every setting with its allowed values',
    },
  )
}

function checkSound(check: SettingsCheck, values: Record<string, unknown>): readonly string[] {
  try {
    const defaults = parseSettings({})
    return check({ ...defaults, ...values })
  } catch (error) {
    if (error instanceof BuildError) return error.because
    throw error
  }
}

type Outcome = { readonly value: unknown } | { readonly problem: string }

function parseValue(text: string, row: SettingRow): Outcome {
  switch (row.type) {
    case 'boolean':
      if (YES.has(text.toLowerCase())) return { value: true }
      if (NO.has(text.toLowerCase())) return { value: false }
      return { problem: 'expected yes or no (true, false, 1 and 0 work too)' }
    case 'integer':
      return parseInteger(text, row)
    case 'choice':
      if (row.allowed.includes(text)) return { value: text }
      return { problem: `expected ${oneOf(row.allowed)}` }
    case 'words': {
      const words = text.split(/[\s,]+/).filter((word) => word !== '')
      if (words.every((word) => row.pattern?.test(word) ?? true)) return { value: Object.freeze(words) }
      return { problem: `expected ${row.expected ?? 'words'}` }
    }
    case 'path':
      if (text.includes('\0') || text.includes('\n')) return { problem: 'expected one path on one line' }
      return { value: text === '' ? '' : resolve(text.replace(/^~(?=\/|$)/, homedir())) }
    case 'url':
      if (text === '' || /^https?:\/\/[^\s]+$/.test(text)) return { value: text.replace(/\/+$/, '') }
      return { problem: 'expected a URL that starts with http:// or https://' }
    case 'text':
      if (row.pattern !== undefined && text !== '' && !row.pattern.test(text)) {
        return { problem: `expected ${row.expected ?? 'a plain word'}` }
      }
      return { value: text }
  }
}

function parseInteger(text: string, row: Extract<SettingRow, { type: 'integer' }>): Outcome {
  if (text === '') return { value: undefined }
  const { min, max } = row
  const expected = `expected a whole number from ${String(min)} to ${String(max)}${row.unit ? ` (${row.unit})` : ''}`
  if (!/^[0-9]+$/.test(text)) return { problem: expected }
  const value = Number(text)
  return value >= min && value <= max ? { value } : { problem: expected }
}

/** `a, b or c` */
export function oneOf(values: readonly string[]): string {
  if (values.length < 2) return values.join('')
  return `${values.slice(0, -1).join(', ')} or ${String(values.at(-1))}`
}

function definedOnly(raw: RawSettings): RawSettings {
  return Object.fromEntries(Object.entries(raw).filter(([, value]) => value !== undefined))
}

/** What chooses the guest on a make command line, for hints. */
export function guestWords({ BUILD_METHOD, DISTRO }: Pick<Settings, 'BUILD_METHOD' | 'DISTRO'>): string {
  return BUILD_METHOD === 'dracut' ? 'BUILD_METHOD=dracut' : `DISTRO=${DISTRO}`
}

/** The named settings only: what a step may read, and so what its fingerprint covers. */
export function select<Name extends SettingName>(
  settings: Settings,
  names: readonly Name[],
): Readonly<Pick<Settings, Name>> {
  const chosen: Partial<Pick<Settings, Name>> = {}
  for (const name of names) chosen[name] = settings[name]
  return Object.freeze(chosen as Pick<Settings, Name>)
}

/**
 * The whole environment a host tool is given: fixed locale, time zone and umask-free names, so that
 * the caller's shell cannot change what is built; proxies pass through.
 */
export function toolEnvironment(extra: RawSettings = {}): Record<string, string> {
  const kept = ['HOME', 'TMPDIR', 'http_proxy', 'https_proxy', 'no_proxy', 'SSL_CERT_FILE', 'TERM']
  const environment: Record<string, string> = {
    PATH: `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    LC_ALL: 'C.UTF-8',
    TZ: 'UTC',
    DEBIAN_FRONTEND: 'noninteractive',
  }
  for (const name of kept) {
    const value = process.env[name] ?? process.env[name.toUpperCase()]
    if (value !== undefined && value !== '') environment[name] = value
  }
  return { ...environment, ...(definedOnly(extra) as Record<string, string>) }
}

/** The machine's own architecture by its `uname -m` name. */
export function hostArch(): keyof typeof ARCHES {
  const names: Readonly<Record<string, keyof typeof ARCHES>> = {
    x64: 'x86_64',
    arm64: 'aarch64',
    ppc64: 'ppc64le',
    s390x: 's390x',
  }
  const name = names[process.arch]
  if (name === undefined)
    throw new BuildError('E_CONFIG', `this machine's architecture ${process.arch} is not supported`)
  return name
}

/** The settings that were given in the environment, as they were given. */
export function givenSettings(): Record<string, string> {
  const given: Record<string, string> = {}
  for (const name of Object.keys(SETTINGS)) {
    const value = process.env[name] || (PROXIES.has(name) ? process.env[name.toLowerCase()] : undefined)
    if (value !== undefined && value !== '') given[name] = value
  }
  return given
}

/** What tells docker and podman where their engine is and who asks, with the proxies. */
export function engineEnvironment(): Record<string, string> {
  const names = [
    ...['DOCKER_HOST', 'DOCKER_CONTEXT', 'DOCKER_CONFIG', 'DOCKER_TLS_VERIFY', 'DOCKER_CERT_PATH'],
    ...[
      'CONTAINER_HOST',
      'CONTAINER_CONNECTION',
      'CONTAINER_SSHKEY',
      'CONTAINERS_CONF',
      'CONTAINERS_STORAGE_CONF',
      'REGISTRY_AUTH_FILE',
      'XDG_RUNTIME_DIR',
      'XDG_CONFIG_HOME',
    ],
    ...['XDG_DATA_HOME', 'SSH_AUTH_SOCK', 'DBUS_SESSION_BUS_ADDRESS', 'USER', 'LOGNAME'],
    ...['http_proxy', 'https_proxy', 'no_proxy'],
  ]
  const found: Record<string, string> = {}
  for (const name of names) {
    const value = process.env[name] ?? (name.endsWith('_proxy') ? process.env[name.toUpperCase()] : undefined)
    if (value !== undefined && value !== '') found[name] = value
  }
  return found
}

/** Name of the variable that tells a step in a container which process outside it stands for. */
export const PROCESS_OUTSIDE = 'OSBUILDER_PROCESS'

/** The process outside of the container that this one stands for; undefined outside. */
export function processOutside(): string | undefined {
  return process.env[PROCESS_OUTSIDE]
}

/**
 * The file of NODE_EXTRA_CA_CERTS, as the Makefile hands it on; undefined without.
 *
 * Node itself reads those certificates, and all of its own, whenever it starts, which takes longer than all the
 * rest of starting. The steps need them for https alone.
 */
export function extraCertificates(): string | undefined {
  const file = process.env['OSBUILDER_EXTRA_CA_CERTS'] ?? ''
  return file === '' ? undefined : file
}

/** True when nothing may be asked of any network; asked before the settings are checked. */
export function wantsOffline(): boolean {
  return YES.has((process.env['OFFLINE'] ?? '').toLowerCase())
}

/** True when a container may have been asked for; asked before the settings are checked. */
export function wantsContainer(): boolean {
  const switches = [process.env['USE_DOCKER'], process.env['USE_PODMAN']]
  return (process.env['BUILDER'] ?? '') !== '' || switches.some((text) => YES.has((text ?? '').toLowerCase()))
}
