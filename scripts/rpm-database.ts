// SPDX-License-Identifier: Apache-2.0
import { copyFileSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

import { capture } from './run.ts'
import { discard, temporaryFor } from './temporary.ts'

/** Where a guest has rpm's database, newer place first. */
export const RPM_DATABASES = ['usr/lib/sysimage/rpm', 'var/lib/rpm'] as const

/** The files of its formats: sqlite, ndb, Berkeley DB. */
export const RPM_DATABASE_FILES = ['rpmdb.sqlite', 'Packages.db', 'Packages'] as const

/**
 * What `rpm --query --all` prints of a database, which the host's rpm reads whatever its format.
 *
 * A copy is asked, because sqlite writes files beside a database that is only read.
 *
 * @param folder host path of the database
 * @param scratch host path beside which the copy lies for the moment
 * @param format of a package. Source: rpm(8), --queryformat
 */
export async function queryRpm(folder: string, scratch: string, format: string): Promise<string> {
  const copy = temporaryFor(scratch)
  try {
    mkdirSync(copy)
    for (const name of readdirSync(folder).filter((file) => !file.startsWith('.')))
      copyFileSync(join(folder, name), join(copy, name))
    return await capture(['rpm', '--dbpath', copy, '--query', '--all', '--queryformat', format])
  } finally {
    discard(copy)
  }
}

/** True when a folder of the host has a database of rpm. */
export function hasRpmDatabase(folder: string): boolean {
  return RPM_DATABASE_FILES.some((name) => existsSync(join(folder, name)))
}
