// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import chalk from 'chalk'

import { PROJECT_ROOT } from './paths.ts'
import { SETTINGS } from './settings-table.ts'
import type { SettingRow } from './settings-table.ts'
import { runStep } from './step.ts'

const USAGE = `
Show the targets of the Makefile and every setting.

  help.js [-m]

  -h  show this help
  -m  settings as a Markdown table, for the README
`

const GROUPS: Readonly<Record<SettingRow['group'], string>> = {
  what: 'What is built',
  agent: 'Agent',
  rootfs: 'Rootfs',
  image: 'Image',
  initrd: 'Initrd',
  kernel: 'Kernel',
  boot: 'Boot',
  where: 'Where and when',
}

/** Width of the column of names. Unit: characters. */
const INDENT = 18

/** Lines fit a terminal of the usual width. Unit: characters. */
const WIDTH = 80

await runStep({
  name: 'help',
  usage: USAGE,
  switches: ['m'],
  needsOwners: false,
  main: (given) => {
    process.stdout.write(given.has('m') ? settingsMarkdown() : helpText())
    return Promise.resolve()
  },
})

function helpText(): string {
  return [
    `${chalk.bold('osbuilder')} builds what a VM-isolated container boots`,
    '',
    '  sudo -E make DISTRO=debian setup boot    build a guest and see it boot',
    '  make DISTRO=debian image AGENT_INIT=yes  set what is built like this',
    '',
    ...targetLines(),
    '',
    chalk.bold('Settings'),
    'From the environment or the make command line; the same in both.',
    ...Object.entries(GROUPS).flatMap(([group, title]) => ['', chalk.bold(title), ...settingLines(group)]),
    '',
  ].join('\n')
}

/** Targets with the text behind their `##` in the Makefile, under its `##@` headings. */
function targetLines(): string[] {
  return readFileSync(join(PROJECT_ROOT, 'Makefile'), 'utf8')
    .split('\n')
    .flatMap((line) => {
      if (line.startsWith('##@ ')) return ['', chalk.bold(line.slice(4))]
      const match = /^([a-z%-]+):.*## (.*)$/.exec(line)
      return match === null ? [] : wrapped(targetName(String(match[1])), String(match[2]))
    })
    .slice(1)
}

/** What stands for `%` in a pattern. */
function targetName(pattern: string): string {
  return pattern.replace('%', pattern === 'print-%' ? 'VAR' : '<distro>')
}

function settingLines(group: string): string[] {
  return Object.entries(SETTINGS as Readonly<Record<string, SettingRow>>)
    .filter(([, row]) => row.group === group)
    .flatMap(([name, row]) => wrapped(name, `${row.help} [${describe(row)}]`))
}

/** Default, allowed values and unit in a few words. */
function describe(row: SettingRow): string {
  const fallback = defaultOf(row) || 'unset'
  switch (row.type) {
    case 'boolean':
      return `${fallback}; yes or no`
    case 'choice':
      return `${fallback}; ${row.allowed.join(', ')}`
    case 'integer':
      return `${fallback}; ${String(row.min)} to ${String(row.max)}${row.unit === undefined ? '' : ` ${row.unit}`}`
    case 'words':
      return `${fallback}; words`
    default:
      return `${fallback}; ${row.type}`
  }
}

/** `no (alpine: yes)` */
function defaultOf({ default: fallback, byDistro = {} }: SettingRow): string {
  const others = Object.entries(byDistro).map(([distro, value]) => `${distro}: ${value}`)
  return others.length === 0 ? fallback : `${fallback} (${others.join(', ')})`
}

/** A name and its text, wrapped so that the text stays in its column. */
function wrapped(name: string, text: string): string[] {
  const lines = ['']
  for (const word of text.split(' ')) {
    const last = lines.at(-1) ?? ''
    if (`${last} ${word}`.length > WIDTH - INDENT - 2) lines.push(word)
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`
  }
  const head = `  ${name.padEnd(INDENT - 1)} `
  // A name that is wider than its column stands alone.
  if (name.length >= INDENT) return [`  ${name}`, ...lines.map((line) => `  ${' '.repeat(INDENT)}${line}`)]
  return lines.map((line, index) => `${index === 0 ? head : `  ${' '.repeat(INDENT)}`}${line}`)
}

function settingsMarkdown(): string {
  const rows = Object.entries(SETTINGS as Readonly<Record<string, SettingRow>>).map(
    ([name, row]) => `| \`${name}\` | ${row.help} | ${describe(row).replaceAll('|', '\\|')} |`,
  )
  return ['| setting | meaning | default; allowed |', '| --- | --- | --- |', ...rows, ''].join('\n')
}
