// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { writeSummary } from '../../../rootfs-builder/provision/summary.ts'
import { contextOf, foreignContextOf, textOf } from './context.ts'

const FILE = 'var/lib/osbuilder/osbuilder.yaml'

t.test('the summary has the fields and the order of format 0.0.2', async (t) => {
  const context = contextOf(
    t,
    {},
    { EXTRA_PKGS: 'vim' },
    { agent: { kind: 'built', folder: '/f', url: 'https://a', commit: 'c0ffee' } },
  )
  writeSummary(context)
  t.equal(
    textOf(context, FILE),
    `---
osbuilder:
  url: ""
  version: "1.2.3"
rootfs-creation-time: "2023-11-14T22:13:20.000Z"
description: "osbuilder rootfs"
file-format-version: "0.0.2"
architecture: "x86_64"
base-distro:
  name: "Debian"
  version: "bookworm"
  packages:
    default:
      - "chrony"
      - "init"
    extra:
      - "vim"
agent:
  url: "https://a"
  name: "kata-agent"
  version: "c0ffee"
  agent-is-init-daemon: "no"
`,
  )
})

t.test('a rootfs of the user has no packages that are known', async (t) => {
  const context = foreignContextOf(t, {}, { AGENT_INIT: 'yes' })
  writeSummary(context)
  const text = textOf(context, FILE) ?? ''
  t.match(text, /^ {4}default: \[\]\n {4}extra: \[\]$/m)
  t.match(text, /^ {2}name: "init"\n {2}version: "1\.2\.3"\n {2}agent-is-init-daemon: "yes"$/m)
})
