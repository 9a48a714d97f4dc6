// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { writeSmallKernel } from '../mirrors/small-kernel.ts'
import type { FAULTS } from '../mirrors/small-kernel.ts'
import { makeAsync } from './user.ts'
import type { Ended } from './user.ts'

t.setTimeout(5 * 60 * 1000)

const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
// The second build is somebody else, who must get at it.
execFileSync('chmod', ['755', scratch])
t.teardown(() => {
  rmSync(scratch, { recursive: true, force: true })
})

/** Build the small kernel twice. */
async function repro(
  name: string,
  fault?: keyof typeof FAULTS,
): Promise<Ended & { readonly workdir: string }> {
  const [tree, workdir] = [join(scratch, `tree-${name}`), join(scratch, `w-${name}`)]
  writeSmallKernel(tree, fault)
  const settings = { DISTRO: 'debian', ARCH: 'x86_64', SOURCE_DATE_EPOCH: '1795000000', TARGET: 'kernel' }
  const source = { KERNEL_SOURCE: 'local', KERNEL_TREE: tree, WORKDIR: workdir }
  return { ...(await makeAsync('repro', { ...settings, ...source })), workdir }
}

t.test('what the kernel step makes is the same under every disturbance', async (t) => {
  const { status, said, workdir } = await repro('good')
  t.equal(status, 0, said)
  t.match(said, /REPRO +vmlinuz\.container +the same twice: sha256 [0-9a-f]{64}/)
  t.match(said, /another working directory and HOME/)
  const vmlinux = readFileSync(join(workdir, 'vmlinux.container'), 'latin1')
  t.match(vmlinux, /Linux version 9\.8\.7 \(osbuilder@osbuilder\) .* #1 SMP Wed, 18 Nov 2026 11:06:40 GMT/)
  t.match(vmlinux, '\0init/part3.c\0', 'a file is named from the sources on')
})

const TOLD = {
  clock: [
    /vmlinux\.container: banner, time: first SMP .*, second SMP .*; it is of: compiling and linking vmlinux, in step kernel; likely cause: the clock or the time zone of the build: KBUILD_BUILD_TIMESTAMP did not decide it/,
    /vmlinuz\.container: .*; it is of: the packing of vmlinux, in step kernel; likely cause: it is vmlinux\.container packed, which differs/,
  ],
  folder: [
    /vmlinux\.container: content at offset \d+; section \.rodata[^;]*; sections that differ: .*: first \d+ bytes, at \d+: ".*\/tmp\/.*second .*osbuilder-repro.*likely cause: it names a folder of the build/,
    /vmlinuz\.container: .*likely cause: it is vmlinux\.container packed/,
  ],
  processors: [
    /config-9\.8\.7: CONFIG_NR_CPUS_FOUND: first \d+, second 1; it is of: make olddefconfig, in step kernel; likely cause: the configuration was made from something that is not part of the inputs/,
  ],
} as const

for (const fault of ['clock', 'folder', 'processors'] as const) {
  t.test(`a kernel that depends on the ${fault} is told with file, place, step and cause`, async (t) => {
    const { status, said } = await repro(fault, fault)
    t.equal(status, 2, said)
    t.match(said, 'TARGET=kernel: the second build gave other bytes')
    for (const words of TOLD[fault]) t.match(said, words)
  })
}
