// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { parseDump } from '../../scripts/xattrs.ts'

t.test('an empty dump has no files', async (t) => {
  t.equal(parseDump('').size, 0)
})

t.test('a file may have several attributes, which come in order of their names', async (t) => {
  const dump =
    '# file: /r/ping\nuser.b=0sQg==\nsecurity.capability=0sAQAAAgAgAAAAAAAAAAAAAAAAAAA=\nuser.empty=0s\n\n'
  const found = parseDump(`${dump}# file: /r/other\nuser.x=0seA==\n`)
  t.strictSame([...found.keys()], ['/r/ping', '/r/other'])
  const ping = found.get('/r/ping')
  t.strictSame([...(ping?.keys() ?? [])], ['security.capability', 'user.b', 'user.empty'])
  t.equal(
    Buffer.from(ping?.get('security.capability') ?? []).toString('hex'),
    '0100000200200000000000000000000000000000',
  )
  t.equal(Buffer.from(ping?.get('user.b') ?? []).toString(), 'B')
  t.equal(ping?.get('user.empty')?.length, 0)
})

t.test('escapes in names stand for bytes, which make UTF-8 together', async (t) => {
  const found = parseDump('# file: /r/a\\012b\\134c\\303\\251é\nuser.x\\075y=0seA==\n')
  t.strictSame([...found.keys()], ['/r/a\nb\\céé'])
  t.strictSame([...(found.get('/r/a\nb\\céé')?.keys() ?? [])], ['user.x=y'])
})
