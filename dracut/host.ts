// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, statSync } from 'node:fs'

import { sha256File } from '../scripts/digest.ts'

const OS_RELEASE = '/etc/os-release'

/** Databases of installed packages: what dracut takes from this host changes with them. */
const DATABASES = [
  '/var/lib/dpkg/status',
  '/usr/lib/sysimage/rpm/rpmdb.sqlite',
  '/var/lib/rpm/rpmdb.sqlite',
  '/lib/apk/db/installed',
]

/** The machine that a guest is taken from. */
export interface Host {
  /** `ID`, `VERSION_ID` and `PRETTY_NAME` of os-release(5). */
  readonly id: string
  readonly version: string
  readonly title: string
  /** Changes when packages of the host do. */
  readonly digests: Readonly<Record<string, string>>
  /** When this release was installed; the clock of what is taken. Unit: seconds since 1970. */
  readonly epochSeconds: number
}

/** What a guest made by dracut depends on, of the machine that makes it. */
export function thisHost(): Host {
  const text = existsSync(OS_RELEASE) ? readFileSync(OS_RELEASE, 'utf8') : ''
  const field = (name: string): string => new RegExp(`^${name}="?([^"\\n]*)"?$`, 'm').exec(text)?.[1] ?? ''
  const files = [OS_RELEASE, ...DATABASES].filter(existsSync)
  return {
    id: field('ID') || 'linux',
    version: field('VERSION_ID') || 'unknown',
    title: field('PRETTY_NAME') || 'this host',
    digests: Object.fromEntries(files.map((file) => [file, sha256File(file)])),
    epochSeconds: existsSync(OS_RELEASE) ? Math.floor(statSync(OS_RELEASE).mtimeMs / 1000) : 0,
  }
}
