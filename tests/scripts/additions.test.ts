// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { commonAdditions, fileEntry, linkEntry } from '../../scripts/additions.ts'
import type { TreeEntry } from '../../scripts/tree.ts'

const folder = (path: string): TreeEntry => ({
  ...fileEntry(path, Buffer.alloc(0), 0),
  type: 'directory',
  mode: 0o40755,
})

t.test('every guest gets the device nodes it needs before anything is mounted', async (t) => {
  const added = new Map(commonAdditions([], 7).map((entry) => [entry.path, entry]))
  t.match(added.get('dev'), { type: 'directory', mode: 0o40755 })
  t.match(added.get('dev/console'), {
    type: 'character-device',
    mode: 0o20600,
    rdevMajor: 5,
    rdevMinor: 1,
    uid: 0,
    gid: 0,
  })
  t.match(added.get('dev/null'), { mode: 0o20666, rdevMajor: 1, rdevMinor: 3, mtimeSeconds: 7 })
  t.notOk(added.has('etc/machine-id'))
})

t.test('what the tree has itself stays', async (t) => {
  const tree = [
    ...['dev', 'etc'].map(folder),
    fileEntry('dev/null', Buffer.alloc(0), 0),
    fileEntry('etc/machine-id', Buffer.from('1'), 0),
  ]
  const paths = commonAdditions(tree, 0).map(({ path }) => path)
  for (const { path } of tree) t.notOk(paths.includes(path), path)
  t.ok(paths.includes('dev/zero'))
})

t.test('a guest with /etc gets an empty machine-id', async (t) => {
  t.match(
    commonAdditions([folder('etc')], 0).find(({ path }) => path === 'etc/machine-id'),
    { sizeBytes: 0, mode: 0o100644 },
  )
})

t.test('files and links that are no host files belong to root', async (t) => {
  t.match(fileEntry('f', Buffer.from('abc'), 9, 0o755), {
    type: 'file',
    mode: 0o100755,
    sizeBytes: 3,
    uid: 0,
    gid: 0,
    mtimeSeconds: 9,
  })
  t.match(linkEntry('l', 't', 9), { type: 'symlink', mode: 0o120777, linkTarget: 't', uid: 0, gid: 0 })
})
