// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import {
  PRIVATE_NAMESPACE,
  USER_NAMESPACE,
  isRoot,
  missingIds,
  namespaceError,
  namespaceFacts,
} from '../../scripts/namespace.ts'
import type { NamespaceFacts } from '../../scripts/namespace.ts'

/** A host that gives ann a namespace. */
const GOOD: NamespaceFacts = {
  username: 'ann',
  uid: 1000,
  subuid: 'bob:100000:65536\nann:165536:65536\n',
  subgid: 'ann:100000:65536\n',
  newuidmap: { path: '/usr/bin/newuidmap', isSetuid: true },
  apparmorRestricts: undefined,
  unprivilegedClone: undefined,
  maxUserNamespaces: 95000,
  kernelHasThem: true,
}

t.test('being root is having the effective id 0', async (t) => {
  t.equal(isRoot(), process.geteuid?.() === 0)
})

t.test('the facts are read from this host', async (t) => {
  const facts = namespaceFacts('/no/such/newuidmap')
  t.equal(facts.uid, process.getuid?.())
  t.equal(facts.newuidmap.isSetuid, false)
  t.equal(facts.kernelHasThem, true)
})

t.test('a user with ranges lacks nothing, by name or by number', async (t) => {
  t.equal(missingIds(GOOD), undefined)
  t.equal(missingIds({ ...GOOD, subuid: '1000:165536:65536\n' }), undefined)
})

t.test('a user without range is told the command that grants one nobody else has', async (t) => {
  t.match(missingIds({ ...GOOD, subuid: 'bob:100000:65536\n', subgid: '' }), {
    code: 'E_PERMISSION',
    exitStatus: 77,
    message: '/etc/subuid and /etc/subgid: user ann has no range of 65535 ids',
    hint: 'sudo usermod --add-subuids 165536-231071 --add-subgids 100000-165535 ann',
  })
  t.match(missingIds({ ...GOOD, subgid: '' }), {
    message: '/etc/subgid: user ann has no range of 65535 ids',
    hint: 'sudo usermod --add-subgids 100000-165535 ann',
  })
})

t.test('a first range that is too small is told, for it is the one that counts', async (t) => {
  t.match(missingIds({ ...GOOD, subuid: 'ann:100000:1000\nann:200000:65536\n' }), {
    because: [
      /several owners/,
      /the range that \/etc\/subuid has for ann is too small: remove its line first/,
    ],
    hint: 'sudo usermod --add-subuids 265536-331071 ann',
  })
})

for (const [what, change, detail, message, hint] of [
  [
    'AppArmor',
    { apparmorRestricts: 1 },
    'unshare: write failed /proc/self/uid_map: Operation not permitted',
    /AppArmor.*apparmor_restrict_unprivileged_userns is 1/,
    /^sudo sysctl kernel\.apparmor_restrict_unprivileged_userns=0 +or build with sudo -E make$/,
  ],
  [
    "Debian's switch",
    { unprivilegedClone: 0 },
    'unshare: unshare failed: Operation not permitted',
    /kernel\.unprivileged_userns_clone is 0/,
    /^sudo sysctl kernel\.unprivileged_userns_clone=1/,
  ],
  [
    'a limit of none',
    { maxUserNamespaces: 0 },
    'unshare: unshare failed: No space left on device',
    /user\.max_user_namespaces is 0/,
    /^sudo sysctl user\.max_user_namespaces=15000/,
  ],
  [
    'a newuidmap without rights',
    { newuidmap: { path: '/usr/bin/newuidmap', isSetuid: false } },
    'newuidmap: write to uid_map failed: Operation not permitted',
    /^\/usr\/bin\/newuidmap: has no right/,
    /^sudo chmod u\+s \/usr\/bin\/newuidmap \/usr\/bin\/newgidmap/,
  ],
  ['the kernel', { kernelHasThem: false }, '', /no user namespaces \(CONFIG_USER_NS\)/, /^boot a kernel/],
  ['something else', {}, 'unshare said no', /^no user namespace could be made$/, /^sudo -E make/],
] as const) {
  t.test(`what forbids a namespace is named, with the command that grants it: ${what}`, async (t) => {
    const error = namespaceError({ ...GOOD, ...change }, detail)
    t.match(error, { code: 'E_PERMISSION', message, hint })
    if (detail !== '') t.match(error.because, [detail])
  })
}

t.test('a missing range is told before anything else', async (t) => {
  t.match(
    namespaceError({ ...GOOD, subuid: '', apparmorRestricts: 1 }, 'no').message,
    '/etc/subuid: user ann',
  )
})

t.test('a command put behind a prefix is not read as an option of it', async (t) => {
  t.equal(USER_NAMESPACE.at(-1), '--')
  t.equal(PRIVATE_NAMESPACE.at(-1), '--')
  t.ok(PRIVATE_NAMESPACE.includes('--kill-child'))
})
