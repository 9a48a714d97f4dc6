// SPDX-License-Identifier: Apache-2.0
import t from 'tap'
import type { Test } from 'tap'

import { parseConfig } from '../../kernel/config-file.ts'
import { parseExceptions } from '../../kernel/exceptions.ts'
import { parseFragment } from '../../kernel/fragment.ts'
import { conjuncts, evaluate } from '../../kernel/kconfig-expression.ts'
import { readKconfig } from '../../kernel/kconfig.ts'
import { problemsOf } from '../../kernel/unmet.ts'

const KCONFIG = `mainmenu "Small kernel"
config BUS
	bool "A bus"
	help
	  config NOT_A_SYMBOL is only a word here,
	  and so is depends on NOTHING.

source "arch/$(SRCARCH)/Kconfig"

menu "Devices"
	depends on BUS

if !TINY
config DISK
	tristate "Disk" if EXPERT
	depends on BLOCK && (FAST || SLOW) # either
	select CRC if $(cc-option,-m(x))
endif

endmenu

config CRC
	bool

config TINY
	bool "Tiny"
config EXPERT
	bool "Expert"
config BLOCK
	bool "Block"

choice
	prompt "Clock"
config HZ_100
	bool "slow"
config HZ_1000
	bool "fast"
endchoice
`

function problems(t: Test, asked: string, config: string, exceptions: string = ''): string[] {
  const tree = t.testdir({
    Kconfig: KCONFIG,
    arch: { x86: { Kconfig: 'config FAST\n\tbool "Fast"\nconfig NR\n\tint "Number"\n\trange 1 9\n' } },
  })
  const rows = parseFragment(asked, 'f.conf').asked.map((row) => [row.name, row] as const)
  return problemsOf({
    asked: new Map(rows),
    exceptions: parseExceptions(exceptions, 'e.list'),
    config: parseConfig(config),
    kconfig: readKconfig(tree, 'x86'),
    arch: 'x86_64',
    version: '6.1.192',
  })
}

t.test('what took is no problem, whatever its spelling', async (t) => {
  t.strictSame(
    problems(t, 'CONFIG_BUS=y\nCONFIG_NR=0x8\n# CONFIG_TINY is not set\n', 'CONFIG_BUS=y\nCONFIG_NR=8\n'),
    [],
  )
})

t.test('a symbol that did not take is told with its fragment and what it needs', async (t) => {
  t.strictSame(problems(t, 'CONFIG_DISK=y\n', 'CONFIG_BLOCK=y\nCONFIG_EXPERT=y\n'), [
    'f.conf:1: CONFIG_DISK=y: needs BUS, which is n and (FAST || SLOW) (FAST=n SLOW=n)',
  ])
  const almost = 'CONFIG_BUS=y\nCONFIG_BLOCK=y\nCONFIG_FAST=y\n'
  t.strictSame(problems(t, 'CONFIG_DISK=y\n', almost), ['f.conf:1: CONFIG_DISK=y: needs EXPERT, which is n'])
  t.strictSame(problems(t, 'CONFIG_DISK=y\n', `${almost}CONFIG_EXPERT=y\nCONFIG_TINY=y\n`), [
    'f.conf:1: CONFIG_DISK=y: needs !TINY, which is y',
  ])
})

t.test('the other reasons are told too', async (t) => {
  t.strictSame(problems(t, 'CONFIG_GONE=y\n', ''), [
    'f.conf:1: CONFIG_GONE=y: this kernel knows no such symbol',
  ])
  t.match(problems(t, 'CONFIG_NOT_A_SYMBOL=y\n', '')[0], 'knows no such symbol', 'help is no definition')
  t.strictSame(problems(t, 'CONFIG_CRC=y\n', ''), [
    'f.conf:1: CONFIG_CRC=y: has no prompt; it is set by what selects it: DISK',
  ])
  t.strictSame(problems(t, '# CONFIG_CRC is not set\n', 'CONFIG_CRC=y\nCONFIG_DISK=m\n'), [
    'f.conf:1: CONFIG_CRC=n: is selected by DISK',
  ])
  t.strictSame(problems(t, 'CONFIG_HZ_1000=y\n', 'CONFIG_HZ_100=y\n'), [
    'f.conf:1: CONFIG_HZ_1000=y: HZ_100 is chosen instead',
  ])
  t.strictSame(problems(t, 'CONFIG_NR=12\n', 'CONFIG_NR=9\n'), [
    'f.conf:1: CONFIG_NR=12: the configuration has 9',
  ])
})

t.test('an exception excuses what it names, and is told when it is wrong', async (t) => {
  t.strictSame(problems(t, 'CONFIG_GONE=y\n', '', '# why\nCONFIG_GONE unknown\n'), [])
  t.strictSame(problems(t, 'CONFIG_DISK=y\n', '', '# why\nCONFIG_DISK unmet before=6.2\n'), [])
  t.match(
    problems(t, 'CONFIG_DISK=y\n', '', '# why\nCONFIG_DISK unmet before=6.1\n')[0],
    'CONFIG_DISK=y: needs',
  )
  t.match(
    problems(t, 'CONFIG_DISK=y\n', '', '# why\nCONFIG_DISK unmet arch=s390x\n')[0],
    'CONFIG_DISK=y: needs',
  )
  t.match(problems(t, 'CONFIG_DISK=y\n', '', '# why\nCONFIG_DISK unknown\n')[0], 'needs', 'it is known')
  t.strictSame(problems(t, 'CONFIG_BUS=y\n', 'CONFIG_BUS=y\n', '# why\nCONFIG_BUS unmet\n'), [
    'e.list:2: CONFIG_BUS: is met here, so the exception is stale',
  ])
  t.strictSame(problems(t, 'CONFIG_BUS=y\n', 'CONFIG_BUS=y\n', '# why\nCONFIG_BUS unknown since=6.1\n'), [
    'e.list:2: CONFIG_BUS: this kernel knows it, so the exception is stale',
  ])
})

t.test('expressions follow the rules of Kconfig', async (t) => {
  const values: Readonly<Record<string, string>> = { A: 'y', B: 'm', NUM: '42', TEXT: '"x86"', '64BIT': 'y' }
  const lookup = (name: string): string => values[name] ?? 'n'
  const cases: readonly [string, boolean][] = [
    ['A', true],
    ['!A', false],
    ['!B', true],
    ['A && C || 64BIT', true],
    ['A && (C || D)', false],
    ['!(C || D)', true],
    ['B=m', true],
    ['NUM >= 42 && NUM < 0x2b', true],
    ['TEXT = "x86"', true],
    ['TEXT != "x86"', false],
    ['C = n', true],
    ['$(success,test -e (a)) && A', true],
  ]
  for (const [expression, expected] of cases) t.equal(evaluate(expression, lookup), expected, expression)
  t.strictSame(conjuncts('A && (B || !C) && !D && y'), ['A', '(B || !C)', '!D'])
})
