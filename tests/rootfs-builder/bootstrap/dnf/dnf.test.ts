// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { dnfArgv, dnfConfig, rpmMacros } from '../../../../rootfs-builder/bootstrap/dnf/config.ts'
import type { DnfSource } from '../../../../rootfs-builder/bootstrap/dnf/config.ts'
import {
  explainDnf,
  failedScripts,
  missingPackages,
} from '../../../../rootfs-builder/bootstrap/dnf/explain.ts'
import { nearNames } from '../../../../rootfs-builder/bootstrap/near-names.ts'
import { repositoriesOf } from '../../../../rootfs-builder/distro.ts'
import { DISTROS } from '../../../../rootfs-builder/distros.ts'
import { parseRpmList } from '../../../../rootfs-builder/packages.ts'
import { BuildError } from '../../../../scripts/errors.ts'
import { hostArch } from '../../../../scripts/settings.ts'

const SOURCE: DnfSource = {
  repositories: [
    { id: 'one', url: 'http://m/one', signs: 'packages' },
    { id: 'two', url: 'http://m/two', signs: 'index', optional: true },
    { id: 'three', url: 'http://m/three', signs: 'both' },
  ],
  keys: ['/k/a.asc', '/k/b.asc'],
  arch: hostArch(),
  releaseVersion: '9',
}
const PLACES = { scratch: '/s', cache: '/c' }

/** A section of the configuration. */
const section = (text: string, name: string): string =>
  text.split(/\n(?=\[)/).find((part) => part.startsWith(`[${name}]`)) ?? ''

t.test('each repository is verified by what its distro signs, and none by nothing', async (t) => {
  const text = dnfConfig(SOURCE)
  t.match(section(text, 'one'), /gpgcheck=1\nrepo_gpgcheck=0/)
  t.match(section(text, 'two'), /gpgcheck=0\nrepo_gpgcheck=1\nskip_if_unavailable=1/)
  t.match(section(text, 'three'), /gpgcheck=1\nrepo_gpgcheck=1\nskip_if_unavailable=0/)
  for (const name of ['one', 'two', 'three'])
    t.match(section(text, name), 'gpgkey=file:///k/a.asc file:///k/b.asc')
  t.match(section(text, 'main'), 'reposdir=/dev/null')
})

t.test("the host's repositories are used when asked, and their packages still verified", async (t) => {
  const source: DnfSource = { ...SOURCE, repositories: 'host' }
  t.notMatch(dnfConfig(source), 'reposdir')
  t.ok(dnfArgv(source, PLACES, '/r', ['install']).includes('--setopt=*.gpgcheck=1'))
  t.notOk(dnfArgv(SOURCE, PLACES, '/r', ['install']).includes('--setopt=*.gpgcheck=1'))
})

t.test("rpm's macros put the database where the guest looks for it", async (t) => {
  t.match(rpmMacros('usr/lib/sysimage/rpm', true), '%_dbpath /usr/lib/sysimage/rpm\n')
  t.notMatch(rpmMacros('var/lib/rpm', true), 'excludedocs')
  t.match(rpmMacros('var/lib/rpm', false), '%_excludedocs 1\n')
})

t.test('the addresses of every dnf distro are complete', async (t) => {
  for (const distro of DISTROS.filter(({ packageManager }) => packageManager === 'dnf')) {
    for (const release of distro.releases) {
      const rows = repositoriesOf({ distro, release, arch: 'x86_64' }, 'https://m', release.version)
      t.ok(rows.length > 0, distro.name)
      for (const { url } of rows) t.match(url, /^https:\/\/m\/[^{}]+$/, url)
    }
  }
})

t.test('what dnf says is told in the words of the settings', async (t) => {
  const told = (log: string): BuildError => {
    const error = explainDnf(new BuildError('E_COMMAND', 'dnf failed'), SOURCE, log)
    t.ok(error instanceof BuildError)
    return error as BuildError
  }
  t.match(told('Error: GPG check FAILED\n'), { code: 'E_SIGNATURE' })
  t.match(told('Package x.rpm is not signed\nError: GPG check FAILED\n'), {
    because: ['Package x.rpm is not signed', 'Error: GPG check FAILED'],
  })
  t.match(told(' Problem: conflicting requests\n  - nothing provides libx needed by y\nError: \n'), {
    code: 'E_INPUT',
  })
  t.match(told("Error: Failed to download metadata for repo 'one'\n"), { code: 'E_NETWORK' })
  // Digests do not fit then either, and nobody's signature is to blame.
  for (const line of [
    'Curl error (23): Failed writing received data to disk/application for http://m [x]',
    'write failed: No space left on device',
    'installing package bash-5 needs 12MB more space on the / filesystem',
  ])
    t.match(told(`  - ${line}\n  - Downloading successful, but checksum doesn't match.\n`), {
      code: 'E_FULL',
    })
  t.match(told('something else\n'), { code: 'E_COMMAND' })
  t.strictSame(missingPackages('No match for argument: a\nNo match for argument: b\n'), ['a', 'b'])
  t.strictSame(failedScripts('warning: %post(chrony-9-1.x86_64) scriptlet failed, exit status 127\n'), [
    'post(chrony-9-1.x86_64)',
  ])
})

t.test('packages of rpm are listed in order of their names, without keys', async (t) => {
  const text = [
    ['zlib', '1.2-1.el9', 'x86_64', 'zlib-1.2-1.el9.src.rpm', '1025'],
    ['gpg-pubkey', '1-2', '(none)', '(none)', '0'],
    ['bash', '1:5-1.el9', 'x86_64', 'bash-5-1.el9.src.rpm', '1'],
  ]
  t.strictSame(parseRpmList(text.map((fields) => `${fields.join('\t')}\n`).join('')), [
    { name: 'bash', version: '1:5-1.el9', arch: 'x86_64', source: 'bash', installedKiB: 1 },
    { name: 'zlib', version: '1.2-1.el9', arch: 'x86_64', source: 'zlib', installedKiB: 2 },
  ])
})

t.test('near names are few, and the nearest come first', async (t) => {
  t.strictSame(nearNames('chorny', ['chrony', 'bash', 'chrony', 'iptables']), ['chrony'])
  t.strictSame(nearNames('iptables', ['iptables-nft', 'nftables', 'iptable']), [
    'iptable',
    'iptables-nft',
    'nftables',
  ])
  t.equal(
    nearNames(
      'a',
      Array.from({ length: 20 }, (_, index) => `a${String(index)}`),
    ).length,
    5,
  )
})
