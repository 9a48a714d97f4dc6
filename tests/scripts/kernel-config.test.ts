// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { missingIn, missingSymbols, publishedKernel } from '../../scripts/kernel-config.ts'

const CONFIG = [
  'CONFIG_EROFS_FS=m',
  'CONFIG_EROFS_FS_ZIP=y',
  'CONFIG_BLK_DEV_DM=m',
  '# CONFIG_SQUASHFS_ZSTD is not set',
  '',
].join('\n')

t.test('a module is enough only where something loads it', async (t) => {
  const needs = { filesystem: 'erofs', compression: 'lz4hc', isMeasured: false }
  t.strictSame(missingIn(CONFIG, needs, true), [])
  t.strictSame(missingIn(CONFIG, needs, false), ['CONFIG_EROFS_FS'])
  t.strictSame(missingIn(CONFIG, { ...needs, isMeasured: true }, true), [
    'CONFIG_BLK_DEV_DM',
    'CONFIG_DM_VERITY',
    'CONFIG_DM_INIT',
  ])
})

t.test('the compression of a SquashFS must be there', async (t) => {
  const needs = { filesystem: 'squashfs', compression: 'zstd', isMeasured: false }
  t.strictSame(missingIn(CONFIG, needs, true), ['CONFIG_SQUASHFS', 'CONFIG_SQUASHFS_ZSTD'])
})

t.test('of a kernel without its configuration nothing is known', async (t) => {
  const folder = t.testdir({ vmlinuz: '' })
  t.strictSame(
    missingSymbols(`${folder}/vmlinuz`, { filesystem: 'xfs', compression: 'none', isMeasured: true }, false),
    [],
  )
})

t.test('a measured image prefers the measured variant, and KERNEL_VARIANT wins', async (t) => {
  const WORKDIR = t.testdir({
    'vmlinuz.container': '',
    'vmlinuz-measured.container': '',
    'vmlinuz-debug.container': '',
  })
  const named = (words: string[], isMeasured: boolean): string | undefined =>
    publishedKernel({ WORKDIR, KERNEL_VARIANT: words }, 'x86_64', isMeasured)?.slice(WORKDIR.length + 1)
  t.equal(named([], false), 'vmlinuz.container')
  t.equal(named([], true), 'vmlinuz-measured.container')
  t.equal(named(['debug'], true), 'vmlinuz-debug.container')
  t.equal(named(['lcow'], false), undefined)
})
