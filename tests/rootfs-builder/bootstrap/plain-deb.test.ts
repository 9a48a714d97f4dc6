// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { startPlainDebs } from '../../../rootfs-builder/bootstrap/plain-deb.ts'

/** A package with one file of so many bytes. */
function makeDeb(folder: string, name: string, compression: string, bytes: number): string {
  const tree = join(folder, name)
  mkdirSync(join(tree, 'DEBIAN'), { recursive: true })
  mkdirSync(join(tree, 'usr/share'), { recursive: true })
  writeFileSync(join(tree, 'usr/share', name), Buffer.alloc(bytes, 'content '))
  const control = `Package: ${name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: test\n`
  writeFileSync(join(tree, 'DEBIAN/control'), control)
  writeFileSync(join(tree, 'DEBIAN/postinst'), '#!/bin/sh\n')
  chmodSync(join(tree, 'DEBIAN/postinst'), 0o755)
  const file = join(folder, `${name}.deb`)
  execFileSync('dpkg-deb', ['--root-owner-group', `-Z${compression}`, '--build', tree, file])
  return file
}

t.test('a package is stored with its files as they are, and stays the package it was', async (t) => {
  const folder = t.testdir()
  const debs = startPlainDebs()
  const rows = ['xz', 'gzip', 'zstd', 'none'].flatMap((compression) =>
    [0, 1000, 3_000_001].map((bytes) => ({ compression, bytes, name: `a-${compression}-${String(bytes)}` })),
  )
  // More at once than there are workers.
  await Promise.all(
    rows.map(async ({ compression, bytes, name }) => {
      const file = makeDeb(folder, name, compression, bytes)
      const plain = join(folder, `${name} plain, with 'quotes'.deb`)
      await debs.store(file, plain)
      const said = (flag: string, of: string): string =>
        execFileSync('dpkg-deb', [flag, of], { encoding: 'latin1', maxBuffer: 2 ** 26 })
      for (const flag of ['--field', '--contents', '--fsys-tarfile', '--ctrl-tarfile']) {
        t.equal(said(flag, plain), said(flag, file), `${name} ${flag}`)
      }
      t.ok(readFileSync(plain).includes('data.tar        '), 'the member has its plain name')
      t.ok(readFileSync(plain).length > bytes)
    }),
  )
  debs.end()
})

t.test('what is no package is told, and a target that is there is left alone', async (t) => {
  const folder = t.testdir({
    text: 'some text that is longer than a header of an archive would be',
    short: '',
  })
  const cut = join(folder, 'cut.deb')
  const good = makeDeb(folder, 'good', 'xz', 100_000)
  writeFileSync(cut, readFileSync(good).subarray(0, 100))
  const debs = startPlainDebs()
  for (const name of ['text', 'short', 'cut.deb']) {
    await t.rejects(debs.store(join(folder, name), join(folder, 'target')), {
      code: 'E_INPUT',
      message: `${name}: is no Debian package`,
    })
  }
  await t.rejects(debs.store(good, cut), { code: 'EEXIST' })
  const damaged = readFileSync(good)
  damaged.fill(0, damaged.length - 100)
  writeFileSync(join(folder, 'damaged.deb'), damaged)
  await t.rejects(debs.store(join(folder, 'damaged.deb'), join(folder, 'of damaged')), {
    code: 'E_COMMAND',
    because: [/command/, /decompressing/, /dpkg-deb: error/],
  })
  debs.end()
})
