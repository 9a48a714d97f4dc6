// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

import fc from 'fast-check'
import t from 'tap'

import { codeDigest, fingerprint, sha256, sha256File } from '../../scripts/digest.ts'
import type { Json } from '../../scripts/digest.ts'

t.test('a fingerprint does not depend on the order of keys, at any depth', async (t) => {
  t.equal(fingerprint({ a: 1, b: { c: [1, 2], d: 'x' } }), fingerprint({ b: { d: 'x', c: [1, 2] }, a: 1 }))
  const reversed = (value: Json): Json => {
    if (Array.isArray(value)) return value.map((item: Json) => reversed(item))
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(
      Object.entries(value)
        .reverse()
        .map(([key, item]) => [key, reversed(item)]),
    )
  }
  fc.assert(
    fc.property(
      fc.jsonValue({ maxDepth: 3 }),
      (value) => fingerprint(reversed(value as Json)) === fingerprint(value as Json),
    ),
  )
})

t.test('a fingerprint depends on values, their types and the order of lists', async (t) => {
  const values: Json[] = [
    { a: 1 },
    { a: '1' },
    { a: [1] },
    { a: [1, 2] },
    { a: [2, 1] },
    { b: 1 },
    { a: null },
    {},
  ]
  t.equal(new Set(values.map(fingerprint)).size, values.length)
})

t.test('a key that is undefined is as good as absent', async (t) => {
  t.equal(fingerprint({ a: 1, b: undefined }), fingerprint({ a: 1 }))
})

t.test('the digest of a file is that of its bytes, also over several chunks', async (t) => {
  const folder = t.testdir()
  for (const size of [0, 1, 4 * 1024 * 1024, 4 * 1024 * 1024 + 1]) {
    const content = Buffer.alloc(size, 'content')
    writeFileSync(join(folder, 'file'), content)
    t.equal(sha256File(join(folder, 'file')), createHash('sha256').update(content).digest('hex'))
  }
  t.equal(sha256(''), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855')
})

t.test('a file that is not there is an input error that names it', async (t) => {
  t.throws(() => sha256File('/no/such/file'), { code: 'E_INPUT', message: /^\/no\/such\/file: .*ENOENT/ })
})

t.test('the digest of the code is the same twice and differs by folder', async (t) => {
  t.equal(codeDigest(['scripts']), codeDigest(['scripts']))
  t.not(codeDigest(['scripts']), codeDigest(['scripts', 'image-builder']))
})
