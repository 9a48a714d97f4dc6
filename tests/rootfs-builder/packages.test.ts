// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { dpkgPackages, parseDpkgStatus } from '../../rootfs-builder/packages.ts'

function paragraph(name: string, status: string, more: string = ''): string {
  return `Package: ${name}\nStatus: ${status}\nArchitecture: amd64\nVersion: 1:2-3\n${more}Description: x\n Version: not this\n .\n`
}

const OK = 'install ok installed'

t.test('installed packages are told in order of their names, with source and size', async (t) => {
  const text = `${paragraph('zlib', OK)}\n${paragraph('acl', OK, 'Source: acl-src (1.0)\nInstalled-Size: 42\n')}`
  t.strictSame(parseDpkgStatus(text), [
    { name: 'acl', version: '1:2-3', arch: 'amd64', source: 'acl-src (1.0)', installedKiB: 42 },
    { name: 'zlib', version: '1:2-3', arch: 'amd64', source: 'zlib', installedKiB: 0 },
  ])
})

t.test('a package of which only settings are left is not installed', async (t) => {
  t.strictSame(parseDpkgStatus(paragraph('gone', 'deinstall ok config-files')), [])
})

t.test('a package that is held is installed', async (t) => {
  t.match(parseDpkgStatus(paragraph('held', 'hold ok installed')), [{ name: 'held' }])
})

t.test('no text and no database are no packages', async (t) => {
  t.strictSame(parseDpkgStatus(''), [])
  t.strictSame(dpkgPackages({ root: t.testdir() }), [])
  const root = t.testdir({ var: { lib: { dpkg: { status: paragraph('a', OK) } } } })
  t.equal(dpkgPackages({ root }).length, 1)
})
