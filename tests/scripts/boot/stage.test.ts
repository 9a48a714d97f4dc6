// SPDX-License-Identifier: Apache-2.0
import { basename } from 'node:path'

import t from 'tap'

import { moduleClosure } from '../../../scripts/boot/stage.ts'

/** A module file as far as its dependencies are read. */
function ko(...fields: readonly string[]): string {
  return `\x7fELF junk\0license=GPL\0${fields.join('\0')}\0name=x\0`
}

function closure(modulesDir: string, ...wanted: readonly string[]): string[] {
  return moduleClosure(modulesDir, wanted).map((file) => basename(file))
}

t.test('dependencies come before what needs them, each once', async (t) => {
  const folder = t.testdir({
    kernel: {
      fs: { 'ext4.ko': ko('depends=mbcache,jbd2') },
      lib: { 'mbcache.ko': ko('depends='), 'jbd2.ko': ko('depends=mbcache'), 'unused.ko': ko('depends=') },
    },
  })
  t.strictSame(closure(folder, 'ext4', 'mbcache'), ['mbcache.ko', 'jbd2.ko', 'ext4.ko'])
})

t.test('a module that should be loaded before is a dependency too', async (t) => {
  const folder = t.testdir({
    'a.ko': ko('softdep=pre: b c', 'depends=d'),
    'b.ko': ko(),
    'c.ko': ko(),
    'd.ko': ko(),
  })
  t.strictSame(closure(folder, 'a').at(-1), 'a.ko')
  t.strictSame(closure(folder, 'a').sort(), ['a.ko', 'b.ko', 'c.ko', 'd.ko'])
})

t.test('a module that should be loaded after is not loaded before', async (t) => {
  const folder = t.testdir({ 'a.ko': ko('softdep=pre: b post: c'), 'b.ko': ko(), 'c.ko': ko() })
  t.strictSame(closure(folder, 'a').slice(0, 2), ['b.ko', 'a.ko'])
})

t.test('a dash in a name is as good as an underscore', async (t) => {
  const folder = t.testdir({ 'crc32c-x.ko': ko(), 'a.ko': ko('depends=crc32c_x') })
  t.strictSame(closure(folder, 'a'), ['crc32c-x.ko', 'a.ko'])
  t.strictSame(closure(folder, 'crc32c_x'), ['crc32c-x.ko'])
})

t.test('what the kernel has built in is not missed, and a circle ends', async (t) => {
  const folder = t.testdir({ 'a.ko': ko('depends=b,builtin'), 'b.ko': ko('depends=a') })
  t.strictSame(closure(folder, 'nothing', 'a'), ['b.ko', 'a.ko'])
})

t.test('modules.dep is read where it is, for compressed modules as well', async (t) => {
  const folder = t.testdir({
    'modules.dep':
      'kernel/a.ko.xz: kernel/b.ko.xz kernel/c.ko.xz\nkernel/b.ko.xz: kernel/c.ko.xz\nkernel/c.ko.xz:\n',
    kernel: { 'a.ko.xz': '', 'b.ko.xz': '', 'c.ko.xz': '' },
  })
  t.strictSame(closure(folder, 'a'), ['c.ko.xz', 'b.ko.xz', 'a.ko.xz'])
})

t.test('compressed modules without modules.dep are refused with the command that makes it', async (t) => {
  const folder = t.testdir({ 'a.ko.zst': '' })
  t.throws(() => closure(folder, 'a'), { code: 'E_INPUT', hint: /^depmod --basedir / })
})
