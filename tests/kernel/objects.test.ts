// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { COUNTED, claimObjects, distance, variantsIn } from '../../kernel/objects.ts'
import type { KernelPlan } from '../../kernel/plan.ts'

t.test('variants are read from the name of a folder, and those that differ are counted', async (t) => {
  t.strictSame(variantsIn('x86_64', 'x86_64'), [])
  t.strictSame(variantsIn('x86_64-nested-debug', 'x86_64'), ['nested', 'debug'])
  t.equal(variantsIn('aarch64-debug', 'x86_64'), undefined)
  t.equal(distance(['measured'], []), 1)
  t.equal(distance(['measured', 'debug'], ['debug']), 1)
  t.equal(distance(['measured'], ['debug']), 2)
})

t.test(
  'a new folder begins with the nearest complete objects of the same sources, times and all',
  async (t) => {
    const root = t.testdir()
    const old = new Date('2020-01-01')
    const objects = (name: string, key: string, isComplete: boolean): void => {
      mkdirSync(join(root, name), { recursive: true })
      writeFileSync(join(root, name, 'a.o'), name)
      utimesSync(join(root, name, 'a.o'), old, old)
      writeFileSync(join(root, name, '.osbuilder-tree'), key)
      if (isComplete) writeFileSync(join(root, name, COUNTED), '1')
    }
    objects('x86_64', 'key', true)
    objects('x86_64-debug', 'key', true)
    objects('x86_64-measured-debug', 'other key', true)
    objects('x86_64-measured', 'key', false)
    objects('aarch64-measured', 'key', true)
    const command = (name: string): string => join(root, name, 'tools/objtool/.a.o.cmd')
    mkdirSync(join(root, 'x86_64-debug/tools/objtool'), { recursive: true })
    writeFileSync(command('x86_64-debug'), `cmd_${root}/x86_64-debug/tools/a.o := cc`)
    const plan = {
      arch: 'x86_64',
      variants: ['measured', 'nested', 'debug'],
      logFile: join(root, 'log'),
    } as unknown as KernelPlan
    const made = join(root, 'x86_64-measured-nested-debug')
    await claimObjects(made, 'key', plan)
    t.equal(readFileSync(join(made, 'a.o'), 'utf8'), 'x86_64-debug')
    const moved = readFileSync(command('x86_64-measured-nested-debug'), 'utf8')
    t.equal(moved, `cmd_${made}/tools/a.o := cc`)
    t.equal(statSync(join(made, 'a.o')).mtimeMs, old.getTime())
    await claimObjects(made, 'new key', plan)
    t.notOk(existsSync(join(made, 'a.o')), 'objects of other sources are removed')
    t.equal(readFileSync(join(made, '.osbuilder-tree'), 'utf8'), 'new key')
  },
)
