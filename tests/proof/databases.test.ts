// SPDX-License-Identifier: Apache-2.0
import { pack } from 'tar-stream'
import t from 'tap'

import { apk } from '../../proof/databases/apk.ts'
import { purlOf } from '../../proof/databases/database.ts'
import { dpkg } from '../../proof/databases/dpkg.ts'
import { QUERY_FORMAT, parseRpmQuery } from '../../proof/databases/rpm.ts'
import { component, takeInventory } from '../../proof/inventory.ts'
import { listContent } from '../../proof/listing.ts'
import { viewTree } from '../../proof/tree-view.ts'
import { fileEntry, linkEntry } from '../../scripts/additions.ts'
import type { TreeEntry } from '../../scripts/tree.ts'

const DEBIAN = { id: 'debian', version: '12' }

const file = (path: string, text: string = ''): TreeEntry => fileEntry(path, Buffer.from(text), 0)

const STATUS = `Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2.15-2+b2
Source: bash (5.2.15-2)
Maintainer: Matthias Klose <doko@debian.org>
Homepage: http://tiswww.case.edu/php/chet/bash/bashtop.html
Description: GNU Bourne Again SHell

Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 2.36-9
Description: GNU C Library

Package: gone
Status: deinstall ok config-files
Version: 1
`

const TREE = [
  linkEntry('bin', 'usr/bin', 0),
  file('etc/os-release', 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\n'),
  file('etc/shells', '/bin/bash\n'),
  file('etc/ld.so.cache', 'cache'),
  file('etc/fstab', '# none\n'),
  file('etc/bash.note', 'of the script'),
  file('etc/hostname', 'localhost\n'),
  file('opt/lost', 'whose?'),
  file('opt/mine', 'added'),
  file('usr/bin/bash', 'elf'),
  file('usr/bin/sh.distrib', 'elf'),
  file('usr/share/doc/bash/copyright', 'Format: x/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-3+\n'),
  file('var/lib/dpkg/diversions', '/bin/sh\n/bin/sh.distrib\ndash\n'),
  file('var/lib/dpkg/info/bash.list', '/.\n/bin\n/bin/bash\n/bin/sh\n/usr/share/doc/bash/copyright\n'),
  file('var/lib/dpkg/info/bash.postinst', '#!/bin/sh\necho x >/etc/bash.note\n'),
  file('var/lib/dpkg/info/libc6:amd64.list', '/.\n/etc\n'),
  file('var/lib/dpkg/status', STATUS),
]

t.test('dpkg: packages with their places, licences and package URLs', async (t) => {
  const packages = (await dpkg.read(viewTree(TREE), DEBIAN, t.testdir())) ?? []
  t.strictSame(
    packages.map(({ name }) => name),
    ['bash', 'libc6'],
    'what was removed is not there',
  )
  const [bash] = packages
  t.equal(bash?.licence.expression, 'GPL-3.0-or-later')
  t.equal(bash?.purl, 'pkg:deb/debian/bash@5.2.15-2%2Bb2?arch=amd64&distro=debian-12')
  t.equal(bash?.source, 'bash')
  t.ok(bash?.files.includes('/bin/sh.distrib'), 'a file that another package diverted has its other name')
  t.equal(await dpkg.read(viewTree([file('etc/x')]), DEBIAN, t.testdir()), undefined)
})

t.test('every file belongs to who wrote it last; what belongs to nothing is told', async (t) => {
  const { components, unaccounted } = await takeInventory(listContent(TREE), viewTree(TREE), {
    edited: new Set(['opt/mine', 'etc/shells']),
    added: new Set(),
    written: { 'forget what the build host left': ['etc/hostname'] },
    componentOfStep: (step) => component({ id: `step-${step}`, kind: 'files', name: step }),
    packageDigests: new Map([['bash 5.2.15-2+b2 amd64', 'd'.repeat(64)]]),
    takenFrom: undefined,
    workDir: t.testdir(),
  })
  const of = (id: string): readonly string[] | undefined =>
    components.find((item) => item.id === id)?.files.map(({ path }) => path)
  t.strictSame(of('dpkg-bash-5.2.15-2+b2-amd64'), [
    'usr/bin/bash',
    'usr/bin/sh.distrib',
    'usr/share/doc/bash/copyright',
  ])
  t.equal(components.find(({ name }) => name === 'bash')?.sha256, 'd'.repeat(64))
  t.strictSame(of('files-user'), ['etc/shells', 'opt/mine'])
  t.strictSame(of('step-forget what the build host left'), ['etc/hostname'])
  t.strictSame(of('files-scripts-bash'), ['etc/bash.note'], 'a script of bash names it')
  t.strictSame(of('files-bootstrap-mmdebstrap'), ['etc/fstab'])
  t.equal(of('files-database-dpkg')?.length, 5)
  // libc-bin is not installed here, so nobody is known to have written the cache.
  t.strictSame(unaccounted.map(({ path }) => path).sort(), ['etc/ld.so.cache', 'etc/os-release', 'opt/lost'])
  const files = components.reduce((sum, { files: own }) => sum + own.length, unaccounted.length)
  t.equal(files, TREE.filter(({ type }) => type === 'file').length, 'each once')
})

t.test('apk: folders, files and the scripts that ran', async (t) => {
  const archive = pack()
  archive.entry({ name: 'busybox-1.37.0-r18.Q1abc=.post-install' }, '#!/bin/sh\necho >/etc/made\n')
  archive.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of archive) chunks.push(chunk as Buffer)
  const installed = [
    'C:Q1abc=',
    'P:busybox',
    'V:1.37.0-r18',
    'A:x86_64',
    'L:GPL-2.0-only',
    'o:busybox',
    'm:Somebody <a@example.invalid>',
    'F:bin',
    'R:busybox',
    'a:0:0:755',
    'F:',
    'R:top',
    '',
  ].join('\n')
  const view = viewTree([
    file('lib/apk/db/installed', installed),
    fileEntry('lib/apk/db/scripts.tar', Buffer.concat(chunks), 0),
  ])
  const [busybox] = (await apk.read(view, { id: 'alpine', version: '3.22.0' }, t.testdir())) ?? []
  t.strictSame(busybox?.files, ['/bin', '/bin/busybox', '/top'])
  t.equal(busybox?.licence.expression, 'GPL-2.0-only')
  t.match(busybox?.scripts[0], '/etc/made')
  t.equal(busybox?.purl, 'pkg:apk/alpine/busybox@1.37.0-r18?arch=x86_64&distro=alpine-3.22.0')
})

t.test('rpm: what its query prints', (t) => {
  const [record, end] = ['\u001f', '\u001e']
  const row = (fields: readonly string[], files: readonly string[]): string =>
    `${fields.join(record)}${record}${files.map((path) => `${path}\n`).join('')}${end}`
  const none = '(none)'
  const said =
    row(
      [
        'bash',
        none,
        '5.1.8',
        '9.el9',
        'x86_64',
        'bash-5.1.8-9.el9.src.rpm',
        'GPLv3+',
        'CentOS',
        'b <b@example.invalid>',
        'https://www.gnu.org/software/bash',
        'The shell',
        '/sbin/ldconfig',
        none,
        none,
      ],
      ['/usr/bin/bash', '/etc/skel/.bashrc'],
    ) +
    row(
      [
        'dbus',
        '1',
        '1.12.20',
        '8.el9',
        'x86_64',
        'dbus-1.12.20-8.el9.src.rpm',
        'MIT',
        none,
        none,
        none,
        'x',
        none,
        none,
        none,
      ],
      [],
    ) +
    row(['gpg-pubkey', none, '1', '1', none, none, 'pubkey', none, none, none, 'gpg', none, none, none], [])
  t.equal(QUERY_FORMAT.split(record).length, row(new Array<string>(14).fill('x'), []).split(record).length)
  const [bash, dbus, ...rest] = parseRpmQuery(said, { id: 'centos', version: '9' })
  t.strictSame(rest, [], 'an imported key is no package')
  t.strictSame(bash?.files, ['/usr/bin/bash', '/etc/skel/.bashrc'])
  t.equal(bash?.source, 'bash')
  t.equal(bash?.supplier, 'CentOS')
  t.equal(dbus?.version, '1:1.12.20-8.el9')
  t.equal(dbus?.purl, 'pkg:rpm/centos/dbus@1.12.20-8.el9?arch=x86_64&distro=centos-9&epoch=1')
  t.strictSame(dbus?.scripts, [])
  t.end()
})

t.test('a package URL keeps the colon of an epoch', (t) => {
  t.equal(
    purlOf('deb', { id: '', version: '' }, { name: 'a+b', version: '1:2~rc1' }, { arch: '' }),
    'pkg:deb/deb/a%2Bb@1:2~rc1',
  )
  t.end()
})
