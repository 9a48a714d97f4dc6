// SPDX-License-Identifier: Apache-2.0
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { ARCHES, ARCH_NAMES } from '../../scripts/arch.ts'
import { elfArch, elfArchOf } from '../../scripts/elf.ts'
import { hostArch } from '../../scripts/settings.ts'

function header(machine: number, bits: 32 | 64, littleEndian: boolean): Buffer {
  const bytes = Buffer.alloc(64)
  bytes.write('\x7fELF', 'latin1')
  bytes[4] = bits === 64 ? 2 : 1
  bytes[5] = littleEndian ? 1 : 2
  if (littleEndian) bytes.writeUInt16LE(machine, 18)
  else bytes.writeUInt16BE(machine, 18)
  return bytes
}

t.test('every architecture is told by machine, class and byte order', async (t) => {
  for (const arch of ARCH_NAMES) {
    const { machine, bits, littleEndian } = ARCHES[arch].elf
    t.equal(elfArchOf(header(machine, bits, littleEndian)), arch)
    t.equal(elfArchOf(header(machine, bits, !littleEndian)), 'other')
    t.equal(elfArchOf(header(machine, 32, littleEndian)), 'other')
  }
  t.equal(elfArchOf(header(243, 64, true)), 'other')
})

t.test('what is no ELF file has no architecture', async (t) => {
  const folder = t.testdir({ script: '#!/bin/sh\nexec something long\n', short: '\x7fELF', empty: '' })
  for (const name of ['script', 'short', 'empty']) t.equal(elfArch(join(folder, name)), undefined, name)
})

t.test('a file is read as its first bytes are', async (t) => {
  const file = join(t.testdir(), 'agent')
  writeFileSync(file, header(183, 64, true))
  t.equal(elfArch(file), 'aarch64')
  t.equal(elfArch(process.execPath), hostArch())
})
