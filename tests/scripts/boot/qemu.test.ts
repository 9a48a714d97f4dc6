// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { ARCH_NAMES } from '../../../scripts/arch.ts'
import { qemuArgv, qemuTool } from '../../../scripts/boot/qemu.ts'
import type { QemuRequest } from '../../../scripts/boot/qemu.ts'

const MIB = 1024 * 1024
const REQUEST: QemuRequest = {
  arch: 'x86_64',
  accelerator: 'tcg',
  machine: 'usual',
  memoryMiB: 512,
  kernel: '/k',
  commandLine: 'console=ttyS0 quiet',
  agentSocket: 'agent.sock',
  console: { file: '/c,d' },
}

/** What follows an option, once per time it is given. */
function valuesOf(argv: readonly string[], option: string): string[] {
  return argv.filter((_, index) => argv[index - 1] === option)
}

t.test('a guest without disk gets kernel, command line, memory and one processor', async (t) => {
  const argv = qemuArgv(REQUEST)
  t.equal(argv[0], 'qemu-system-x86_64')
  t.strictSame(valuesOf(argv, '-kernel'), ['/k'])
  t.strictSame(valuesOf(argv, '-append'), ['console=ttyS0 quiet'])
  t.strictSame(valuesOf(argv, '-m'), ['512M'])
  t.strictSame(valuesOf(argv, '-initrd'), [])
  t.strictSame(valuesOf(argv, '-blockdev'), [])
  t.ok(argv.includes('-nodefaults') && argv.includes('-no-reboot'))
  t.strictSame(valuesOf(qemuArgv({ ...REQUEST, initrd: '/i' }), '-initrd'), ['/i'])
})

t.test('an image on virtio-blk is opened read-only', async (t) => {
  const argv = qemuArgv({ ...REQUEST, disk: { file: '/a.img', sizeBytes: 64 * MIB, bus: 'virtio-blk' } })
  t.strictSame(valuesOf(argv, '-blockdev'), [
    'driver=raw,node-name=disk0,read-only=on,file.driver=file,file.filename=/a.img',
  ])
  t.ok(valuesOf(argv, '-device').includes('virtio-blk-pci,drive=disk0'))
  t.strictSame(valuesOf(argv, '-machine'), ['q35'])
})

t.test('an image on nvdimm is read-only and takes address space beyond the memory', async (t) => {
  const argv = qemuArgv({ ...REQUEST, disk: { file: '/a.img', sizeBytes: 64 * MIB, bus: 'nvdimm' } })
  t.strictSame(valuesOf(argv, '-machine'), ['q35,nvdimm=on'])
  t.strictSame(valuesOf(argv, '-m'), ['512M,slots=2,maxmem=576M'])
  t.ok(
    valuesOf(argv, '-object').includes(
      `memory-backend-file,id=disk0,share=off,readonly=on,mem-path=/a.img,size=${String(64 * MIB)}`,
    ),
  )
  t.ok(valuesOf(argv, '-device').includes('nvdimm,memdev=disk0,id=nvdimm0,unarmed=on'))
})

t.test('a comma in a path is written twice', async (t) => {
  for (const bus of ['virtio-blk', 'nvdimm'] as const) {
    const words = qemuArgv({ ...REQUEST, agentSocket: 's,t', disk: { file: '/a,b', sizeBytes: MIB, bus } })
    t.equal(words.filter((word) => word.includes('=/a,,b')).length, 1)
    t.ok(words.some((word) => word.includes('path=s,,t,server=on')))
    t.ok(words.some((word) => word.endsWith('path=/c,,d')))
  }
})

t.test('each architecture has its program, machine, bus and console', async (t) => {
  const disk = { file: '/a', sizeBytes: MIB, bus: 'virtio-blk' } as const
  const seen = ARCH_NAMES.map((arch) => {
    const argv = qemuArgv({ ...REQUEST, arch, disk })
    t.equal(argv[0], qemuTool(arch))
    const bus = arch === 's390x' ? 'ccw' : 'pci'
    for (const name of ['virtio-blk', 'virtio-rng', 'virtio-serial']) {
      t.ok(
        valuesOf(argv, '-device').some((word) => word.startsWith(`${name}-${bus}`)),
        `${arch} ${name}`,
      )
    }
    t.equal(valuesOf(argv, '-serial').length, arch === 's390x' ? 0 : 1)
    return [argv[0], ...valuesOf(argv, '-machine'), ...valuesOf(argv, '-cpu')].join(' ')
  })
  t.strictSame(seen, [
    'qemu-system-x86_64 q35 max,cx16=off',
    'qemu-system-aarch64 virt max',
    'qemu-system-ppc64 pseries power9',
    'qemu-system-s390x s390-ccw-virtio max',
  ])
})

t.test('an interactive guest has the terminal', async (t) => {
  t.ok(qemuArgv({ ...REQUEST, console: 'terminal' }).includes('stdio,id=console,signal=off'))
})
