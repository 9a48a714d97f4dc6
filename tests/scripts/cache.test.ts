// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { bytesOf, evict, findEntry, listCache, makeEntry, readSeal } from '../../scripts/cache.ts'
import { sha256, sha256File } from '../../scripts/digest.ts'

const KEY = 'a'.repeat(64)

function tick(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 20))
}

async function filled(cacheDir: string, key: string, content: string): Promise<string> {
  return makeEntry(cacheDir, 'base', key, (folder) => {
    mkdirSync(join(folder, 'deep'))
    writeFileSync(join(folder, 'deep/file'), content)
    return Promise.resolve()
  })
}

t.test('an entry is found as it was made, and one that failed leaves nothing', async (t) => {
  const cacheDir = t.testdir()
  t.equal(findEntry(cacheDir, 'base', KEY), undefined)
  const folder = await filled(cacheDir, KEY, 'content')
  t.equal(findEntry(cacheDir, 'base', KEY), folder)
  t.equal(readFileSync(join(folder, 'deep/file'), 'utf8'), 'content')
  t.equal(findEntry(cacheDir, 'provisioned', KEY), undefined)
  await t.rejects(
    makeEntry(cacheDir, 'base', 'b', () => Promise.reject(new Error('no'))),
    /no/,
  )
  t.equal(listCache(cacheDir).length, 1)
})

t.test('what was written into since is found out, dropped, and never used', async (t) => {
  const cacheDir = t.testdir()
  for (const damage of ['contenT', 'conten', 'content and more']) {
    const folder = await filled(cacheDir, KEY, 'content')
    await tick()
    writeFileSync(join(folder, 'deep/file'), damage)
    t.equal(findEntry(cacheDir, 'base', KEY), undefined, damage)
    t.notOk(existsSync(folder))
  }
})

t.test(
  'digests that are known are not computed again, and a large file is read on another core',
  async (t) => {
    const cacheDir = t.testdir()
    const folder = await makeEntry(cacheDir, 'package', KEY, (entry) => {
      for (const name of ['known', 'other']) writeFileSync(join(entry, name), name)
      writeFileSync(join(entry, 'large'), 'x')
      truncateSync(join(entry, 'large'), 33 * 1024 * 1024)
      return Promise.resolve({ known: 'as told' })
    })
    t.strictSame(Object.fromEntries(readSeal(folder)), {
      known: 'as told',
      other: sha256('other'),
      large: sha256File(join(folder, 'large')),
    })
  },
)

t.test('touching an entry is no damage', async (t) => {
  const cacheDir = t.testdir()
  const folder = await filled(cacheDir, KEY, 'content')
  await tick()
  utimesSync(join(folder, 'deep/file'), 1, 1)
  t.equal(findEntry(cacheDir, 'base', KEY), folder)
  t.equal(findEntry(cacheDir, 'base', KEY), folder, 'and it is remembered')
})

t.test('of two builds that make the same entry the first one stays', async (t) => {
  const cacheDir = t.testdir()
  let begin = (): void => undefined
  const other = new Promise<void>((resolve) => (begin = resolve))
  const slow = makeEntry(cacheDir, 'base', KEY, async (folder) => {
    await other
    writeFileSync(join(folder, 'file'), 'slow')
  })
  // Another process has a temporary name of its own; here the entry itself stands for it.
  mkdirSync(join(cacheDir, 'base', KEY))
  writeFileSync(join(cacheDir, 'base', KEY, 'file'), 'quick')
  writeFileSync(join(cacheDir, 'base', KEY, 'seal.json'), '{}')
  begin()
  await slow
  t.equal(readFileSync(join(cacheDir, 'base', KEY, 'file'), 'utf8'), 'quick')
})

t.test('what was not used for longest goes first', async (t) => {
  const cacheDir = t.testdir()
  for (const [index, key] of ['old', 'middle', 'new'].entries()) {
    const folder = await filled(cacheDir, key, 'x'.repeat(1000))
    utimesSync(join(folder, 'seal.json'), 1000 + index, 1000 + index)
  }
  const sizeBytes = listCache(cacheDir)[0]?.sizeBytes ?? 0
  t.ok(sizeBytes >= 1000)
  findEntry(cacheDir, 'base', 'old')
  const removed = evict(listCache(cacheDir), 2 * sizeBytes)
  t.strictSame(
    removed.map(({ key }) => key),
    ['middle'],
  )
  t.strictSame(
    listCache(cacheDir).map(({ key }) => key),
    ['old', 'new'],
  )
  evict(listCache(cacheDir), 0)
  t.strictSame(listCache(cacheDir), [])
})

t.test('sizes are read with their unit', (t) => {
  t.strictSame(['0', '17', '2K', '10G'].map(bytesOf), [0, 17, 2048, 10 * 2 ** 30])
  t.end()
})
