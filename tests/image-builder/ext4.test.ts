// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { minimumExt4Bytes } from '../../image-builder/filesystem/ext4-plan.ts'
import { readTree } from '../../scripts/tree.ts'
import type { TreeEntry } from '../../scripts/tree.ts'
import {
  BLOCK_SIZES,
  complaintsAbout,
  debugfs,
  entryOf,
  fileOf,
  planOf,
  statOf,
  treeOf,
  writePlan,
} from './ext4-fixture.ts'

const MIB = 1024 * 1024
const CAPABILITY = Buffer.from('0100000200040000000000000000000000000000', 'hex')
const ACL = Buffer.from(
  '02000000' +
    '01000600ffffffff' +
    '02000400e8030000' +
    '04000400ffffffff' +
    '10000400ffffffff' +
    '20000400ffffffff',
  'hex',
)

/** Longer than a block group of every block size, and mostly zero. */
function crossingContent(): Uint8Array {
  const content = new Uint8Array(140 * MIB + 5)
  for (let at = 0; at < content.length; at += MIB) content[at] = at / MIB + 1
  content.fill(7, content.length - 9)
  return content
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function nastyTree(crossing: Uint8Array): TreeEntry[] {
  const linked = { linkGroup: 'group', uid: 12 } as const
  return treeOf(
    fileOf('mode-000', 'secret\n', { mode: 0o100000 }),
    fileOf('setuid', 'x', { mode: 0o104755 }),
    fileOf('one', 'linked', linked),
    fileOf('two', 'linked', linked),
    entryOf('sub', 'directory', { mode: 0o041777 }),
    fileOf('sub/three', 'linked', linked),
    entryOf('dangling', 'symlink', { linkTarget: 'no/such/file' }),
    entryOf('absolute', 'symlink', { linkTarget: '/etc/passwd' }),
    entryOf('link-59', 'symlink', { linkTarget: 'a'.repeat(59) }),
    entryOf('link-60', 'symlink', { linkTarget: 'b'.repeat(60) }),
    entryOf('link-300', 'symlink', { linkTarget: 'ő'.repeat(150) }),
    entryOf('fifo', 'fifo'),
    entryOf('socket', 'socket'),
    entryOf('null', 'character-device', { rdevMajor: 1, rdevMinor: 3 }),
    entryOf('disk', 'block-device', { rdevMajor: 259, rdevMinor: 70_000 }),
    fileOf('Főtanúsítvány és kulcs.pem', 'utf-8'),
    entryOf('empty-dir', 'directory'),
    fileOf('empty-file', ''),
    fileOf('mtime-0', 'x', { mtimeSeconds: 0 }),
    fileOf('mtime-future', 'x', { mtimeSeconds: 2 ** 33 }),
    fileOf('uid-70000', 'x', { uid: 70_000, gid: 100_000 }),
    fileOf('ping', 'x', { xattrs: new Map([['security.capability', CAPABILITY]]) }),
    fileOf('acl', 'x', { xattrs: new Map([['system.posix_acl_access', ACL]]) }),
    fileOf('large-xattr', 'x', {
      xattrs: new Map([
        ['user.large', Buffer.alloc(700, 'v')],
        ['security.capability', CAPABILITY],
        ['trusted.empty', Buffer.alloc(0)],
        ['user.ős', Buffer.from('1')],
      ]),
    }),
    entryOf('many', 'directory'),
    ...Array.from({ length: 3000 }, (_, index) => fileOf(`many/name-${String(index)}`, `${String(index)}\n`)),
    fileOf('crossing', crossing),
  )
}

for (const blockSizeBytes of BLOCK_SIZES) {
  t.test(`the nasty tree with blocks of ${String(blockSizeBytes)} bytes reads back`, async (t) => {
    const imageFile = join(t.testdir({}), 'image')
    const crossing = crossingContent()
    writePlan(imageFile, planOf(nastyTree(crossing), { blockSizeBytes }))
    const stat = (path: string): string => statOf(imageFile, path)
    const cat = (path: string): string => debugfs(imageFile, `cat "${path}"`).toString('utf8')

    t.test('e2fsck has no complaint', async (t) => {
      t.equal(complaintsAbout(imageFile), '')
    })

    t.test('modes, owners and times are those of the entries', async (t) => {
      t.match(stat('/mode-000'), /Type: regular Mode: 0000 /)
      t.match(stat('/setuid'), /Mode: 04755 /)
      t.match(stat('/sub'), /Type: directory Mode: 01777 /)
      t.match(stat('/uid-70000'), /User: 70000 Group: 100000 /)
      t.match(stat('/mtime-0'), / mtime: 0x00000000:00000000 /)
      t.match(
        stat('/mtime-0'),
        / ctime: 0x6553f100:00000000 .* atime: 0x6553f100:0+ .* crtime: 0x6553f100:0+ /,
      )
      t.match(stat('/mtime-future'), / mtime: 0x6553f100:00000000 /)
    })

    t.test('the names of one inode share it', async (t) => {
      const inode = /Inode: (\d+)/.exec(stat('/one'))?.[1]
      t.match(stat('/two'), `Inode: ${String(inode)} `)
      t.match(stat('/sub/three'), `Inode: ${String(inode)} `)
      t.match(stat('/one'), /User: 12 .* Links: 3 /)
      t.equal(cat('/sub/three'), 'linked')
    })

    t.test('symlinks, short and long, keep their target', async (t) => {
      t.match(stat('/dangling'), /Fast link dest: "no\/such\/file"/)
      t.match(stat('/absolute'), /Fast link dest: "\/etc\/passwd"/)
      t.match(stat('/link-59'), `Fast link dest: "${'a'.repeat(59)}"`)
      t.equal(debugfs(imageFile, `cat <${inodeOf(stat('/link-60'))}>`).toString(), 'b'.repeat(60))
      t.equal(debugfs(imageFile, `cat <${inodeOf(stat('/link-300'))}>`).toString(), 'ő'.repeat(150))
    })

    t.test('special files keep their kind and number', async (t) => {
      t.match(stat('/fifo'), /Type: FIFO/)
      t.match(stat('/socket'), /Type: socket/)
      t.match(stat('/null'), /Type: character special .*Device major\/minor number: 01:03/)
      t.match(stat('/disk'), /Type: block special .*Device major\/minor number: 259:70000/)
    })

    t.test('names may hold spaces and any UTF-8', async (t) => {
      t.equal(cat('/Főtanúsítvány és kulcs.pem'), 'utf-8')
    })

    t.test('a large directory lists every name', async (t) => {
      const names = debugfs(imageFile, 'ls -p /many')
        .toString('utf8')
        .match(/name-\d+/g)
      t.equal(new Set(names).size, 3000)
      t.equal(cat('/many/name-2999'), '2999\n')
    })

    t.test('extended attributes in the inode and in a block read back', async (t) => {
      t.match(stat('/ping'), /security.capability \(20\) = 01 00 00 02 00 04/)
      t.match(stat('/ping'), /File ACL: 0 /)
      t.match(stat('/large-xattr'), /File ACL: [1-9]/)
      t.match(stat('/large-xattr'), /trusted.empty \(0\)/)
      t.match(debugfs(imageFile, 'ea_get /large-xattr user.large').toString(), 'v'.repeat(700))
      const acl = debugfs(imageFile, 'ea_get -x /acl system.posix_acl_access')
        .toString()
        .replaceAll(/\s+/g, '')
      // Ids that no user or group stands for are not stored; debugfs shows 0 for them.
      t.match(acl, ACL.toString('hex').replaceAll('ffffffff', '00000000'))
    })

    t.test('a file over several block groups reads back', async (t) => {
      t.equal(sha256(debugfs(imageFile, 'cat /crossing')), sha256(crossing))
      t.match(stat('/empty-file'), /Size: 0 .*Blockcount: 0 /)
      t.ok(statSync(imageFile).blocks * 512 < 60 * MIB, 'zeros are holes')
    })
  })
}

function inodeOf(stat: string): string {
  return /Inode: (\d+)/.exec(stat)?.[1] ?? ''
}

t.test('the superblock says what was asked for', async (t) => {
  const imageFile = join(t.testdir({}), 'image')
  writePlan(imageFile, planOf(treeOf(), { blockSizeBytes: 4096, label: 'kata-rootfs', sizeBytes: 128 * MIB }))
  const text = debugfs(imageFile, 'show_super_stats -h').toString('utf8')
  t.match(text, /volume name: +kata-rootfs\n/)
  t.match(text, /UUID: +01234567-89ab-cdef-0123-456789abcdef\n/)
  t.match(text, /Hash Seed: +fedcba98-7654-3210-fedc-ba9876543210\n/)
  t.match(text, /Filesystem state: +clean\n/)
  t.match(text, /Reserved block count: +983\n/)
  t.match(text, /Inode count: +8192\n/)
  t.match(statOf(imageFile, '<8>'), / Size: 16777216 /)
  t.match(text, /Last write time: +Tue Nov 14/)
})

t.test('a copy of the superblock is enough to check the filesystem', async (t) => {
  const imageFile = join(t.testdir({}), 'image')
  const content = new Uint8Array(20 * MIB).fill(1)
  writePlan(imageFile, planOf(treeOf(fileOf('file', content)), { blockSizeBytes: 1024 }))
  const opened = debugfs(imageFile, 'stats -h').toString('utf8')
  t.match(opened, /Filesystem state: +clean/)
  const bytes = readFileSync(imageFile)
  t.equal(bytes.readUInt16LE(8193 * 1024 + 0x38), 0xef53, 'group 1 has one')
  t.equal(bytes.readUInt16LE(8193 * 1024 + 0x5a), 1)
})

t.test('lost+found of the tree is used', async (t) => {
  const imageFile = join(t.testdir({}), 'image')
  const entries = treeOf(entryOf('lost+found', 'directory', { uid: 5 }), fileOf('lost+found/#12', 'found'))
  writePlan(imageFile, planOf(entries, { blockSizeBytes: 1024 }))
  t.equal(complaintsAbout(imageFile), '')
  t.match(statOf(imageFile, '/lost+found'), /Inode: 11 .*Mode: 0755 .*User: 5 .*Size: 16384 /)
  t.equal(debugfs(imageFile, 'cat "/lost+found/#12"').toString(), 'found')
})

t.test('times after 2038 use the wide fields', async (t) => {
  const imageFile = join(t.testdir({}), 'image')
  const entries = treeOf(
    fileOf('late', 'x', { mtimeSeconds: 2 ** 32 + 5 }),
    fileOf('early', 'x', { mtimeSeconds: -1 }),
  )
  writePlan(imageFile, planOf(entries, { blockSizeBytes: 1024, epochSeconds: 2 ** 33 }))
  t.match(statOf(imageFile, '/late'), / ctime: 0x00000000:00000002 .* mtime: 0x00000005:00000001 /)
  t.match(statOf(imageFile, '/early'), / mtime: 0xffffffff:00000000 /)
})

t.test('a filesystem in the middle of a file leaves the rest alone', async (t) => {
  const directory = t.testdir({ before: 'b'.repeat(3 * MIB) })
  const plan = planOf(treeOf(fileOf('file', 'content')), { blockSizeBytes: 4096 })
  const imageFile = join(directory, 'image')
  writePlan(imageFile, plan, 3 * MIB)
  writePlan(join(directory, 'alone'), plan)
  const bytes = readFileSync(imageFile)
  t.ok(bytes.subarray(0, 3 * MIB).every((byte) => byte === 0))
  t.ok(bytes.subarray(3 * MIB).equals(readFileSync(join(directory, 'alone'))))
})

t.test(
  'the same tree read in another order, with other inodes and ctimes, gives the same bytes',
  async (t) => {
    const directory = t.testdir({})
    const names = Array.from({ length: 40 }, (_, index) => `file-${String(index)}`)
    const images = [names, names.toReversed()].map((order, index) => {
      const root = join(directory, String(index))
      mkdirSync(root)
      for (const name of order) {
        writeFileSync(join(root, name), name.repeat(300))
        utimesSync(join(root, name), index + 5, 1_500_000_000)
      }
      utimesSync(root, index, 1_500_000_000)
      const imageFile = join(directory, `image-${String(index)}`)
      writePlan(imageFile, planOf(readTree(root), { blockSizeBytes: 4096 }))
      return readFileSync(imageFile)
    })
    t.ok(images[0]?.equals(images[1] ?? Buffer.alloc(0)))
  },
)

const CHANGES = [
  {
    what: 'grew',
    change: (file: string) => {
      appendFileSync(file, 'x')
    },
  },
  {
    what: 'shrank',
    change: (file: string) => {
      truncateSync(file, 4095)
    },
  },
  {
    what: 'vanished',
    change: (file: string) => {
      rmSync(file)
    },
  },
  {
    what: 'became a directory',
    change: (file: string) => {
      rmSync(file)
      mkdirSync(file)
    },
  },
] as const

for (const { what, change } of CHANGES) {
  t.test(`a file that ${what} since planning is refused`, async (t) => {
    const directory = t.testdir({ root: { file: 'x'.repeat(4096) } })
    const file = join(directory, 'root/file')
    const plan = planOf(readTree(join(directory, 'root')), { blockSizeBytes: 4096 })
    change(file)
    t.throws(
      () => {
        writePlan(join(directory, 'image'), plan)
      },
      {
        code: 'E_INPUT',
        message: `${file}: changed while it was being packed`,
      },
    )
  })
}

t.test('an empty file that grew since planning is refused', async (t) => {
  const directory = t.testdir({ root: { empty: '' } })
  const plan = planOf(readTree(join(directory, 'root')), { blockSizeBytes: 1024 })
  appendFileSync(join(directory, 'root/empty'), 'x')
  t.throws(
    () => {
      writePlan(join(directory, 'image'), plan)
    },
    { code: 'E_INPUT' },
  )
})

t.test('host files of every length around the buffer read back', async (t) => {
  const bufferBytes = 4 * MIB
  const lengths = [1, 4095, 4096, 4097, bufferBytes - 1, bufferBytes, bufferBytes + 1, 2 * bufferBytes]
  const directory = t.testdir({ root: {} })
  for (const length of lengths) {
    writeFileSync(join(directory, 'root', String(length)), Buffer.alloc(length, `${String(length)} `))
  }
  const entries = readTree(join(directory, 'root'))
  const imageFile = join(directory, 'image')
  t.ok(minimumExt4Bytes(entries, { blockSizeBytes: 4096, freeBytes: 0 }) > 5 * bufferBytes)
  writePlan(imageFile, planOf(entries, { blockSizeBytes: 4096 }))
  t.equal(complaintsAbout(imageFile), '')
  for (const length of lengths) {
    const packed = debugfs(imageFile, `cat /${String(length)}`)
    t.ok(packed.equals(readFileSync(join(directory, 'root', String(length)))), `${String(length)} bytes`)
  }
})
