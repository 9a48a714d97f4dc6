// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'

import t from 'tap'

import { ARCH_NAMES } from '../../../scripts/arch.ts'
import { chooseAccelerator } from '../../../scripts/boot/accelerator.ts'
import { hostArch } from '../../../scripts/settings.ts'

t.test('a guest of another architecture is emulated', async (t) => {
  for (const arch of ARCH_NAMES.filter((name) => name !== hostArch()))
    t.equal(chooseAccelerator(arch), 'tcg', arch)
})

t.test(
  'without /dev/kvm the guest is emulated',
  { skip: existsSync('/dev/kvm') && 'this host has KVM' },
  async (t) => {
    t.equal(chooseAccelerator(hostArch()), 'tcg')
  },
)

t.test('the choice for a guest of this architecture is one of the two', async (t) => {
  t.ok(['kvm', 'tcg'].includes(chooseAccelerator(hostArch())))
})
