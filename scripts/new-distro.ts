// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'

import { BuildError } from './errors.ts'
import { report } from './log.ts'
import { PROJECT_ROOT } from './paths.ts'
import { readSettings } from './settings.ts'
import { runStep } from './step.ts'

const USAGE = `
Begin a new distro: copy the template and put it on the list.

  NAME=mine new-distro.js

  -h  show this help

docs/adding-a-distro.md tells the rest.
`

await runStep({ name: 'new-distro', usage: USAGE, needsOwners: false, main })

function main(): Promise<void> {
  const { NAME } = readSettings({}, [
    ({ NAME: name }) => (name === '' ? ['NAME=: expected the name of the new distro; type NAME=mine'] : []),
  ])
  const room = join(PROJECT_ROOT, 'rootfs-builder')
  const folder = join(room, NAME)
  if (existsSync(folder)) {
    throw new BuildError('E_CONFIG', `NAME=${NAME}: ${folder} is there already`, {
      hint: `edit ${relative(PROJECT_ROOT, join(folder, 'distro.ts'))}, or choose another name`,
    })
  }
  const template = readFileSync(join(room, 'template', 'distro.txt'), 'utf8')
  const list = join(room, 'distros.ts')
  const listed = onList(readFileSync(list, 'utf8'), NAME)
  mkdirSync(join(folder, 'keys'), { recursive: true })
  writeFileSync(join(folder, 'distro.ts'), template.replaceAll('@name@', NAME))
  writeFileSync(
    join(folder, 'keys', 'README.md'),
    `# Keys of ${NAME}\n\nName of each file, its fingerprint, and where it comes from.\n`,
  )
  writeFileSync(list, listed)
  report('DISTRO', `rootfs-builder/${NAME}/distro.ts`, 'fill in:')
  const asked = [
    '1. packageManager and releases',
    '2. mirror and keyring; put the key into keys/',
    '3. packages, each with its reason',
  ]
  for (const line of asked) process.stdout.write(`          ${line}\n`)
  report('DISTRO', `then:  make DISTRO=${NAME} setup boot`, 'docs/adding-a-distro.md')
  return Promise.resolve()
}

/** The list of distros with one more: its import, and its name. */
function onList(text: string, name: string): string {
  const entry = /(export const DISTROS: readonly Distro\[\] = \[)([^\]]*)(\])/
  const anchor = "import type { Distro, Release } from './distro.ts'\n"
  if (!entry.test(text) || !text.includes(anchor)) {
    throw new BuildError('E_CONFIG', 'rootfs-builder/distros.ts is not as new-distro expects it', {
      hint: `add ${name} to it by hand, as the others are`,
    })
  }
  return text
    .replace(entry, (_, start: string, names: string, end: string) => {
      const listed = names.split(',').map((word) => word.trim())
      return `${start}${[...listed, name].filter((word) => word !== '').join(', ')}${end}`
    })
    .replace(anchor, `${anchor}import { ${name} } from './${name}/distro.ts'\n`)
}
