// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { followPath } from '../../scripts/guest-path.ts'

const LINKS: Readonly<Record<string, string>> = {
  bin: 'usr/bin',
  'usr/lib64': '/lib',
  lib: './usr//lib/',
  'usr/out': '../../../../etc',
  'etc/self': 'self',
  'etc/a': 'b',
  'etc/b': 'a/c',
  'usr/lib/chain': '/usr/out/passwd',
}
const linkAt = (path: string): string | undefined => LINKS[path]

t.test('links are followed as the guest would, and none leads above its root', async (t) => {
  for (const [path, where] of [
    ['', ''],
    ['/', ''],
    ['usr/bin/sh', 'usr/bin/sh'],
    ['/bin/sh', 'usr/bin/sh'],
    ['bin', 'usr/bin'],
    ['/usr/lib64/x', 'usr/lib/x'],
    ['../../bin/../lib', 'usr/lib'],
    ['lib/../../..', ''],
    ['usr/out/shadow', 'etc/shadow'],
    ['lib/chain', 'etc/passwd'],
    ['absent/./x//y', 'absent/x/y'],
  ] as const) {
    t.equal(followPath(path, linkAt), where, path)
  }
})

t.test('a loop leads nowhere', async (t) => {
  for (const path of ['etc/self', 'etc/self/x', 'etc/a']) t.equal(followPath(path, linkAt), undefined, path)
})

t.test('the last link can be left to itself, those before it not', async (t) => {
  const butLast = (path: string, isLast: boolean): string | undefined => (isLast ? undefined : linkAt(path))
  t.equal(followPath('bin', butLast), 'bin')
  t.equal(followPath('usr/lib64/chain', butLast), 'usr/lib/chain')
})
