// SPDX-License-Identifier: Apache-2.0
import { createPublicKey } from 'node:crypto'
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { parseIndex } from '../../../../rootfs-builder/bootstrap/apk/index.ts'
import type { ApkPackage } from '../../../../rootfs-builder/bootstrap/apk/index.ts'
import { readPackage, storePackage } from '../../../../rootfs-builder/bootstrap/apk/package-cache.ts'
import { openPackage } from '../../../../rootfs-builder/bootstrap/apk/package.ts'
import { makeApk, makeKey } from '../../../mirrors/alpine.ts'
import type { MadePackage } from '../../../mirrors/alpine.ts'
import { oneByteChanged, serve } from '../../../mirrors/server.ts'

const KEY = makeKey('me@example.invalid-1.rsa.pub')
const KEYS = new Map([[KEY.name, createPublicKey(KEY.pem)]])

const MADE: MadePackage = {
  name: 'a',
  scripts: { 'post-install': '#!/bin/sh\n', trigger: '#!/bin/sh\n\u00ff' },
  triggers: ['/etc', '/usr/*'],
  replaces: ['b<2', 'c'],
  replacesPriority: 7,
  files: [
    { name: 'etc/a', content: Buffer.from([0, 255, 10]), uname: 'someone', mode: 0o4755 },
    { name: 'etc/empty' },
    { name: 'etc/b', type: 'link', linkname: 'etc/a' },
    { name: 'etc/c', type: 'symlink', linkname: 'a' },
    { name: 'etc/d', content: 'd', xattrs: { 'user.x': Buffer.from([1, 200, 0]) } },
  ],
}

const made = await makeApk(MADE, KEY)
const asked: string[] = []
let served = made.file
const mirror = await serve('r', (path) => {
  asked.push(path)
  return Promise.resolve(served)
})
t.teardown(() => mirror.close())
const item = parseIndex(made.index, { url: mirror.url })[0] as ApkPackage

t.test('a package from the cache is the one that was verified, and is not fetched again', async (t) => {
  const cacheDir = t.testdir()
  const first = await storePackage(item, KEYS, cacheDir)
  t.strictSame(asked, ['x86_64/a-1.0-r0.apk'])
  const open = await openPackage(item, made.file, KEYS)
  const read = readPackage(item, first)
  t.strictSame(read.facts, open.facts)
  t.equal(read.entries.length, open.entries.length)
  for (const [index, entry] of open.entries.entries()) {
    const { body, xattrs, header } = read.entries[index] ?? {}
    t.strictSame([body, xattrs], [entry.body, entry.xattrs], entry.header.name)
    t.match(entry.header, { ...header }, entry.header.name)
  }
  asked.length = 0
  t.equal(await storePackage(item, KEYS, cacheDir), first)
  t.strictSame(asked, [])
})

t.test('what other keys proved, or was changed in the cache, is fetched again', async (t) => {
  const cacheDir = t.testdir()
  const first = await storePackage(item, KEYS, cacheDir)
  const stranger = makeKey('stranger-1.rsa.pub')
  await t.rejects(storePackage(item, new Map([[stranger.name, createPublicKey(stranger.pem)]]), cacheDir), {
    code: 'E_SIGNATURE',
  })
  const data = join(first, 'data')
  writeFileSync(data, oneByteChanged(readFileSync(data)))
  asked.length = 0
  t.strictSame(
    readPackage(item, await storePackage(item, KEYS, cacheDir))
      .entries.at(-1)
      ?.body.toString(),
    'd',
  )
  t.equal(asked.length, 1)
})

t.test('nothing enters the cache of a package that is refused', async (t) => {
  const cacheDir = t.testdir()
  served = oneByteChanged(made.file)
  await t.rejects(storePackage(item, KEYS, cacheDir), { code: 'E_SIGNATURE' })
  t.throws(() => readdirSync(join(cacheDir, 'package')), { code: 'ENOENT' })
})
