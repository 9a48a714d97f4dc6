// SPDX-License-Identifier: Apache-2.0
import { basename } from 'node:path'

import { fingerprint } from '../../scripts/digest.ts'
import { BuildError } from '../../scripts/errors.ts'
import { offlineWithoutLock, openLock } from '../../scripts/package-lock/package-lock.ts'
import type {
  AskedGuest,
  LockedGuest,
  LockedPackage,
  OpenLock,
} from '../../scripts/package-lock/package-lock.ts'
import type { LockPlaces } from '../../scripts/package-lock/locked-file.ts'
import type { Settings } from '../../scripts/settings.ts'
import type { InstalledPackage } from '../packages.ts'
import type { LockedRequest } from './plan.ts'

/** Where the files of a lock are looked for, by the settings. */
export function lockPlaces(
  settings: Pick<Settings, 'VENDOR_DIR' | 'OFFLINE'>,
  of: { readonly lockFile: string; readonly cacheDir: string },
): LockPlaces {
  return { ...of, vendorDir: settings.VENDOR_DIR, isOffline: settings.OFFLINE }
}

/**
 * The part of the lock that covers what is asked for; undefined without a lock.
 *
 * @throws BuildError E_CONFIG when there is a lock that does not cover it, or none and OFFLINE needs one
 */
export function lockedGuest(
  settings: Settings,
  asked: AskedGuest,
  cacheDir: string,
): LockedRequest | undefined {
  const open = openLock(settings)
  if (open === undefined) {
    if (settings.OFFLINE) throw offlineWithoutLock(settings.LOCK_FILE)
    return undefined
  }
  const guest = open.lock.guests.find((one) => differences(one, asked).length === 0)
  if (guest === undefined) throw notCovered(open, asked)
  const places = lockPlaces(settings, { lockFile: open.file, cacheDir })
  const mirror =
    settings.REPO_URL === '' ? {} : { mirror: { locked: guest.mirror, asked: settings.REPO_URL } }
  return { guest, places: { ...places, ...mirror } }
}

/** What of a locked guest is not what is asked for, one line each; none when it is covered. */
export function differences(locked: AskedGuest, asked: AskedGuest): string[] {
  const single = (['distro', 'release', 'arch', 'manager'] as const)
    .filter((name) => locked[name] !== asked[name])
    .map((name) => `${name}: ${asked[name]} asked for, ${locked[name]} locked`)
  const titles = {
    components: 'REPO_COMPONENTS',
    repositories: 'REPO_EXTRA',
    asked: 'packages',
    extra: 'EXTRA_PKGS',
  }
  const lists = (['components', 'repositories', 'asked', 'extra'] as const).flatMap((name) => {
    // Their order is the one they are installed in.
    if (locked[name].join('\n') === asked[name].join('\n')) return []
    const words = [
      ...asked[name].filter((word) => !locked[name].includes(word)).map((word) => `+${word}`),
      ...locked[name].filter((word) => !asked[name].includes(word)).map((word) => `-${word}`),
    ]
    return [`${titles[name]}: ${words.length === 0 ? 'in another order' : words.join(' ')}`]
  })
  return [...single, ...lists]
}

/** The locked guest that is most like the asked one, when it is of the same distro. */
export function nearestGuest(guests: readonly LockedGuest[], asked: AskedGuest): LockedGuest | undefined {
  return guests
    .filter(({ distro }) => distro === asked.distro)
    .sort((a, b) => differences(a, asked).join().length - differences(b, asked).join().length)[0]
}

function notCovered({ file, lock }: OpenLock, asked: AskedGuest): BuildError {
  const nearest = nearestGuest(lock.guests, asked)
  const others = [...new Set(lock.guests.map((one) => `${one.distro} ${one.release} ${one.arch}`))]
  return new BuildError(
    'E_CONFIG',
    `${basename(file)}: does not cover this ${asked.distro} ${asked.release} ${asked.arch}`,
    {
      because:
        nearest === undefined
          ? [others.length === 0 ? 'it has no guest' : `it has ${others.join(', ')}`]
          : differences(nearest, asked),
      hint: 'make lock    with the same settings adds it; LOCK_FILE=/dev/null builds without a lock',
    },
  )
}

/**
 * Check that a lock names no index but those of the distro: their names become names of folders, and the
 * lock says of them no more than that they are lines of text.
 *
 * @param names of all indexes that the distro has with these settings
 * @throws BuildError E_INPUT naming the first other one
 */
export function checkIndexNames({ guest, places }: LockedRequest, names: readonly string[]): void {
  const other = guest.indexes.find(({ name }) => !names.includes(name))
  if (other === undefined) return
  const lockFile = basename(places.lockFile)
  throw new BuildError(
    'E_INPUT',
    `${lockFile}: ${guest.distro} ${guest.release} has no index ${other.name}`,
    {
      because: [names.length === 0 ? 'it has none that a lock may name' : `it has ${names.join(', ')}`],
      hint: `git checkout -- ${lockFile}    or make lock-update`,
    },
  )
}

/** Digest of what the packages of a lock are; not of where they come from. */
export function packagesDigest(packages: readonly LockedPackage[]): string {
  return fingerprint(
    packages
      .map(({ name, version, arch, sha256: digest, priority, section, layer }) => ({
        ...{ name, version, arch, digest, layer },
        ...{ priority, section },
      }))
      .sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)),
  )
}

/**
 * Check that a tree has the packages of the lock, all of them and no other.
 *
 * @throws BuildError E_DIGEST naming those that differ
 */
export function checkInstalled(
  { guest, places }: LockedRequest,
  installed: readonly InstalledPackage[],
): void {
  const key = ({ name, version, arch }: Pick<InstalledPackage, 'name' | 'version' | 'arch'>): string =>
    [name, version, arch].join(' ')
  const [wanted, found] = [new Set(guest.packages.map(key)), new Set(installed.map(key))]
  const wrong = [
    ...[...wanted].filter((one) => !found.has(one)).map((one) => `${one}: locked, and nothing installs it`),
    ...[...found].filter((one) => !wanted.has(one)).map((one) => `${one}: installed, and not locked`),
  ]
  if (wrong.length === 0) return
  throw new BuildError('E_DIGEST', `${basename(places.lockFile)}: is not what would be installed`, {
    because: wrong.slice(0, 8),
    hint: `git checkout -- ${basename(places.lockFile)}    or make lock-update`,
  })
}

/** The error for a lock whose packages are not what is asked for, or not all of it. */
export function unfit({ lockFile }: LockPlaces, because: readonly string[], cause?: unknown): BuildError {
  const name = basename(lockFile)
  return new BuildError('E_INPUT', `${name}: its packages do not fit to each other`, {
    because,
    hint: `git checkout -- ${name}    or make lock-update`,
    cause,
  })
}
