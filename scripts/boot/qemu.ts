// SPDX-License-Identifier: Apache-2.0
import { ARCHES } from '../arch.ts'
import type { ArchName } from '../arch.ts'
import type { Accelerator } from './accelerator.ts'

export interface QemuRequest {
  readonly arch: ArchName
  readonly accelerator: Accelerator
  /** `microvm` has devices at fixed addresses instead of a PCI bus. */
  readonly machine: 'usual' | 'microvm'
  readonly memoryMiB: number
  readonly kernel: string
  readonly initrd?: string
  readonly commandLine: string
  readonly disk?: {
    readonly file: string
    readonly sizeBytes: number
    readonly bus: 'virtio-blk' | 'nvdimm'
  }
  /** Socket of the agent's channel. */
  readonly agentSocket: string
  /** Where the serial console goes: a file, or the terminal. */
  readonly console: { readonly file: string } | 'terminal'
}

/** Name of the agent's channel; the agent looks for it. */
export const AGENT_PORT = 'org.osbuilder.agent'

/** The QEMU program for an architecture. */
export function qemuTool(arch: ArchName): string {
  return `qemu-system-${ARCHES[arch].qemuSystem}`
}

/**
 * The command that boots a guest and ends with it. The disk is opened read-only: what is booted is
 * what was built, before and after.
 */
export function qemuArgv(request: QemuRequest): string[] {
  const { arch, disk } = request
  const bus = virtioBus(request)
  return [
    [qemuTool(arch), '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ['-machine', machineArgument(request)],
    ['-accel', request.accelerator],
    ['-cpu', processor(request)],
    ['-smp', '1', '-m', memory(request)],
    ['-kernel', request.kernel],
    request.initrd === undefined ? [] : ['-initrd', request.initrd],
    ['-append', request.commandLine],
    disk === undefined ? [] : diskArgv(disk, bus),
    ['-object', 'rng-random,id=rng0,filename=/dev/urandom', '-device', `virtio-rng-${bus},rng=rng0`],
    ['-chardev', `socket,id=agent,path=${escaped(request.agentSocket)},server=on,wait=off`],
    ['-device', `virtio-serial-${bus}`, '-device', `virtserialport,chardev=agent,name=${AGENT_PORT}`],
    consoleArgv(request),
  ].flat()
}

/**
 * The processor the guest sees.
 *
 * What QEMU 7.2 emulates of cmpxchg16b leaves the other flags with the bits of a register. An interrupt then
 * keeps them, and its end is a fault: kernels from 6.6 on, whose allocator branches on the flags right after it,
 * die at a place that is another one each time. Without it they have another way.
 * Source: linux, arch/x86/lib/cmpxchg16b_emu.S
 */
function processor({ arch, accelerator }: QemuRequest): string {
  if (arch === 'ppc64le') return 'power9'
  return arch === 'x86_64' && accelerator === 'tcg' ? 'max,cx16=off' : 'max'
}

/** Last part of the names of virtio devices. */
function virtioBus({ arch, machine }: QemuRequest): string {
  if (machine === 'microvm') return 'device'
  // s390x has no PCI bus that its devices are on by default, but a channel bus.
  return arch === 's390x' ? 'ccw' : 'pci'
}

function machineArgument({ arch, disk, machine }: QemuRequest): string {
  // With ACPI it has no timer that QEMU's own processor could be timed by; the older table does.
  if (machine === 'microvm') return 'microvm,acpi=off'
  const { machine: name } = ARCHES[arch]
  return disk?.bus === 'nvdimm' ? `${name},nvdimm=on` : name
}

/** An NVDIMM takes address space beyond the memory, as much as it is large. */
function memory({ memoryMiB, disk }: QemuRequest): string {
  if (disk?.bus !== 'nvdimm') return `${String(memoryMiB)}M`
  const most = memoryMiB + Math.ceil(disk.sizeBytes / 1024 / 1024)
  return `${String(memoryMiB)}M,slots=2,maxmem=${String(most)}M`
}

function diskArgv({ file, sizeBytes, bus }: NonNullable<QemuRequest['disk']>, deviceBus: string): string[] {
  if (bus === 'nvdimm') {
    return [
      [
        '-object',
        `memory-backend-file,id=disk0,share=off,readonly=on,mem-path=${escaped(file)},size=${String(sizeBytes)}`,
      ],
      ['-device', 'nvdimm,memdev=disk0,id=nvdimm0,unarmed=on'],
    ].flat()
  }
  return [
    ['-blockdev', `driver=raw,node-name=disk0,read-only=on,file.driver=file,file.filename=${escaped(file)}`],
    ['-device', `virtio-blk-${deviceBus},drive=disk0`],
  ].flat()
}

function consoleArgv({ arch, console }: QemuRequest): string[] {
  const backend =
    console === 'terminal' ? 'stdio,id=console,signal=off' : `file,id=console,path=${escaped(console.file)}`
  return arch === 's390x'
    ? ['-chardev', backend, '-device', 'sclpconsole,chardev=console']
    : ['-chardev', backend, '-serial', 'chardev:console']
}

/** A comma in a value is written twice. Source: qemu(1). */
function escaped(value: string): string {
  return value.replaceAll(',', ',,')
}
