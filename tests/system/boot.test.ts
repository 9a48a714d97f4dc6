// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { BOOT_WORKDIR, FOREIGN_WORKDIR, PROJECT, make } from './user.ts'

/** One folder for all boots: base trees and the boot kernel are shared through its cache. */
const WORKDIR = BOOT_WORKDIR

const COMMON = {
  DISTRO: 'debian',
  WORKDIR,
  SOURCE_DATE_EPOCH: '1795000000',
  INITRD_COMPRESSION: 'zstd',
  BOOT_TIMEOUT: '300',
}

/** The image or the initrd alone, for `make test-image-only` and `make test-initrd-only`. */
const only = process.env['BOOT_ONLY']
const kinds = (['image', 'initrd'] as const).filter((kind) => only === undefined || kind === only)
const FILES = { image: 'kata-containers.img', initrd: 'kata-containers-initrd.img' } as const

t.setTimeout(30 * 60 * 1000)

for (const [agentInit, pid1] of [
  ['no', 'systemd'],
  ['yes', 'agent'],
] as const) {
  for (const kind of kinds) {
    t.test(`the ${kind} comes up with ${pid1} as PID 1, and its agent answers`, (t) => {
      const settings = { ...COMMON, AGENT_INIT: agentInit }
      const built = make(kind, settings)
      t.equal(built.status, 0, built.said)
      const file = join(WORKDIR, FILES[kind])
      const before = digestOf(file)
      const booted = make('boot', { ...settings, BOOT: kind })
      t.equal(booted.status, 0, booted.said)
      t.match(
        booted.stdout,
        /BOOT +agent ready in [0-9.]+ s \((TCG|KVM)\)\n$/,
        'the last line tells the time',
      )
      t.match(booted.said, `(${pid1})`, 'PID 1 is the one asked for')
      t.match(booted.said, 'Debian GNU/Linux 12 (bookworm)')
      t.match(booted.said, new RegExp(`BOOT +${kind} `), 'the artifact asked for was booted')
      t.equal(digestOf(file), before, 'booting changed nothing in it')
      t.end()
    })
  }
}

if (only !== 'initrd') {
  t.test('the image comes up through its DAX header, as an NVDIMM with the second partition table', (t) => {
    const settings = { ...COMMON, AGENT_INIT: 'yes', BOOT: 'image', BOOT_DISK: 'nvdimm' }
    const booted = make('boot', settings)
    t.equal(booted.status, 0, booted.said)
    t.match(booted.said, 'agent ready in')
    t.end()
  })

  t.test('in the guest no unit fails, and chronyd starts and looks for the clock of the host', (t) => {
    const settings = { ...COMMON, AGENT_INIT: 'no', BOOT: 'image' }
    t.equal(make('image', settings).status, 0)
    const quiet = 'test -z "`systemctl --failed --no-legend`"'
    // QEMU without KVM has no such clock: the unit's condition is lifted, and chronyd must get so far as to miss it.
    const drop =
      'mkdir -p /run/systemd/system/chrony.service.d && echo "[Unit]\nConditionPathExists=" >/run/systemd/system/chrony.service.d/99.conf'
    const start =
      'systemctl daemon-reload; systemctl start chrony; journalctl -u chrony -o cat | grep "Could not open /dev/ptp0"'
    const booted = make('boot', { ...settings, BOOT_COMMAND: `${quiet} && ${drop} && ${start}` })
    t.equal(booted.status, 0, booted.said)
    t.match(booted.stdout, 'Could not open /dev/ptp0')
    const failing = make('boot', { ...settings, BOOT_COMMAND: 'echo out of luck; exit 3' })
    t.not(failing.status, 0)
    t.match(failing.said, 'BOOT_COMMAND ended with status 3 in the guest: out of luck')
    t.end()
  })

  t.test('a guest whose root cannot be found is a failed boot that shows its last words', (t) => {
    const settings = {
      ...COMMON,
      AGENT_INIT: 'yes',
      BOOT: 'image',
      KERNEL_CMDLINE: 'init=/nowhere',
      BOOT_TIMEOUT: '5',
    }
    const kernel = join(PROJECT, 'package.json')
    const booted = make('boot', { ...settings, KERNEL: kernel })
    t.not(booted.status, 0)
    t.match(booted.said, 'ERROR boot: kata-containers.img:')
    t.match(booted.said, 'full console:')
    t.notMatch(booted.said, 'this is a bug')
    t.end()
  })
}

if (only === undefined) {
  t.test('a guest for aarch64 is built on this machine and comes up in its own QEMU', (t) => {
    const settings = {
      ...COMMON,
      ARCH: 'aarch64',
      AGENT_INIT: 'yes',
      WORKDIR: FOREIGN_WORKDIR,
    }
    const built = make('initrd', settings)
    t.equal(built.status, 0, built.said)
    const booted = make('boot', { ...settings, BOOT: 'initrd' })
    t.equal(booted.status, 0, booted.said)
    t.match(booted.said, 'agent ready in')
    t.match(booted.said, /Linux \S+-arm64/)
    t.end()
  })
}

function digestOf(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex')
}
