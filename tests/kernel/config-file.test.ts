// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { assignment, differences, isSame, parseConfig } from '../../kernel/config-file.ts'
import { progressText, startProgress } from '../../kernel/progress.ts'
import { compareVersions, seriesOf } from '../../kernel/versions.ts'

t.test('two configurations are compared by meaning', async (t) => {
  const a = parseConfig(
    '# head\nCONFIG_A=y\nCONFIG_N=0x10\n# CONFIG_OFF is not set\nCONFIG_M=m\nCONFIG_T="a b"\n',
  )
  const b = parseConfig('CONFIG_T="a b"\nCONFIG_N=16\nCONFIG_NEW=y\nCONFIG_M=y\nCONFIG_OFF=n\nCONFIG_A=y\n')
  t.strictSame(differences(a, b), [
    { name: 'M', before: 'm', after: 'y' },
    { name: 'NEW', before: 'n', after: 'y' },
  ])
  t.strictSame(differences(a, a), [])
  t.ok(isSame('0x1000000', '0x01000000'))
  t.notOk(isSame('"16"', '16'))
  t.equal(assignment('X', 'n'), '# CONFIG_X is not set')
  t.equal(assignment('X', '7'), 'CONFIG_X=7')
})

t.test('versions are compared as numbers, by as many as the bound has', async (t) => {
  t.ok(compareVersions('6.1.192', '6.9') < 0)
  t.ok(compareVersions('6.12', '6.9') > 0)
  t.equal(compareVersions('6.1.192', '6.1'), 0)
  t.equal(seriesOf('6.12.4-rc1'), '6.12')
})

t.test('progress is one line on a terminal, and ten lines elsewhere', async (t) => {
  const run = (isTerminal: boolean): string => {
    let said = ''
    let nowMs = 0
    const progress = startProgress({
      title: '6.1 x86_64',
      about: 100,
      isTerminal,
      write: (text) => {
        said += text
      },
      nowMs: () => nowMs,
    })
    for (let file = 0; file < 100; file += 1) {
      nowMs += 1000
      progress.line(`  CC      lib/file${String(file)}.o`)
      progress.line('  LD      vmlinux')
    }
    t.equal(progress.end(), 100)
    return said
  }
  const plain = run(false)
  t.equal(plain.split('\n').length - 1, 9)
  t.match(plain, '  KERNEL  6.1 x86_64   20 of about 100 files   1 min 20 s left\n')
  t.notMatch(plain, '\r')
  const live = run(true)
  t.notMatch(live, '\n')
  t.ok(live.endsWith('\r\u001b[K'), 'nothing of it stays')
  t.match(progressText({ title: 'x', about: 10, done: 25, elapsedMs: 1000 }), '25 of about 25 files')
})
