// SPDX-License-Identifier: Apache-2.0
import { exists, readText } from '../../guest.ts'
import type { Guest } from '../../guest.ts'
import type { EntryHeader } from './archive.ts'

export interface Owner {
  readonly uid: number
  readonly gid: number
}

/** Numbers of the guest's users and groups, by their names. */
export interface Accounts {
  readonly users: ReadonlyMap<string, number>
  readonly groups: ReadonlyMap<string, number>
}

export function readAccounts(guest: Guest): Accounts {
  return { users: numbersIn(guest, 'etc/passwd'), groups: numbersIn(guest, 'etc/group') }
}

/** Names and numbers of lines `name:x:number:…`. Source: passwd(5), group(5) */
function numbersIn(guest: Guest, path: string): ReadonlyMap<string, number> {
  const lines = exists(guest, path) ? readText(guest, path).split('\n') : []
  const rows = lines.map((line) => line.split(':'))
  return new Map(
    rows
      .filter(([name, , number]) => name !== '' && /^\d+$/.test(number ?? ''))
      .map(([name = '', , number]) => [name, Number(number)]),
  )
}

/** The owner an archive names: by the guest's number of that name, else by the number it had where it was made. */
export function ownerOf({ users, groups }: Accounts, header: EntryHeader): Owner {
  return {
    uid: users.get(header.uname ?? '') ?? header.uid ?? 0,
    gid: groups.get(header.gname ?? '') ?? header.gid ?? 0,
  }
}
