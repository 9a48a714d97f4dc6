// SPDX-License-Identifier: Apache-2.0
import { differingSections, placeInElf } from './elf-places.ts'
import { explainContent, firstDifference, shownAt } from './explain.ts'
import type { Difference, Surroundings } from './explain.ts'

/** A published file of a kernel, as both builds have it. */
export interface KernelFile {
  readonly path: string
  readonly first: Buffer
  readonly second: Buffer
}

/** Which part of the step makes a file of a kernel, by the beginning of its name. */
export function makerOf(path: string): string {
  if (path.startsWith('config-')) return 'of: make olddefconfig, in step kernel'
  if (path.startsWith('modules-')) return 'of: make modules_install, in step kernel'
  if (path.startsWith('System.map-')) return 'of: the linking of vmlinux, in step kernel'
  if (path.startsWith('vmlinuz')) return 'of: the packing of vmlinux, in step kernel'
  return 'of: compiling and linking vmlinux, in step kernel'
}

/**
 * Tell what differs between the files of two kernels, and why.
 *
 * What follows from something else says so: the packed kernel from the plain one, addresses from code.
 */
export function explainKernels(files: readonly KernelFile[], around: Surroundings): Difference[] {
  const differing = files.filter(({ first, second }) => !first.equals(second))
  const plain = differing.find(({ path }) => path.startsWith('vmlinux'))
  const addresses = files.find(({ path }) => path.startsWith('System.map-'))?.first.toString('latin1') ?? ''
  const config = differing.find(({ path }) => path.startsWith('config-'))
  return differing.flatMap((file) => {
    if (file === config) return explainConfig(file)
    if (file === plain) return explainPlain(file, around, { addresses, isConfigured: config !== undefined })
    const follows = plain === undefined ? '' : followsFrom(file.path, plain.path)
    const [difference] = file.path.startsWith('vmlinuz') && follows === '' ? banners(file) : []
    const told = difference ?? explainContent(file.path, () => [file.first, file.second], around)
    return [follows === '' ? told : { ...told, cause: follows }]
  })
}

function followsFrom(path: string, plain: string): string {
  if (path.startsWith('vmlinuz')) return `it is ${plain} packed, which differs`
  if (path.startsWith('System.map-'))
    return `addresses of ${plain}, whose code or data has another size or order`
  return ''
}

/** Symbols of the configuration that differ. */
function explainConfig({ path, first, second }: KernelFile): Difference[] {
  const [a, b] = [symbolsOf(first), symbolsOf(second)]
  const names = [...new Set([...a.keys(), ...b.keys()])].sort()
  const rows = names
    .map((name) => ({ name, one: a.get(name) ?? 'n', other: b.get(name) ?? 'n' }))
    .filter(({ one, other }) => one !== other)
    .map(({ name, one, other }) => ({
      path,
      field: `CONFIG_${name}`,
      first: one,
      second: other,
      // What Kconfig asks of the compiler, linker and assembler. Source: linux/init/Kconfig
      cause: /^(CC|GCC|CLANG|LD|AS|TOOLS|PAHOLE|RUSTC?)_/.test(name)
        ? 'another compiler, linker or tool was found'
        : 'the configuration was made from something that is not part of the inputs, or changed after the build',
    }))
  if (rows.length > 0) return rows
  const at = firstDifference(first, second)
  const line = (text: Buffer): string => text.toString('latin1').split('\n')[lineAt(first, at) - 1] ?? ''
  return [
    {
      path,
      field: `line ${String(lineAt(first, at))}`,
      first: line(first),
      second: line(second),
      cause: 'the same symbols in other words: comments, or the order of the lines',
    },
  ]
}

function lineAt(text: Buffer, offset: number): number {
  return text.toString('latin1', 0, offset).split('\n').length
}

function symbolsOf(text: Buffer): ReadonlyMap<string, string> {
  return new Map(
    [...text.toString('utf8').matchAll(/^CONFIG_(\w+)=(.*)$/gm)].map(([, name = '', value = '']) => [
      name,
      value,
    ]),
  )
}

function explainPlain(
  file: KernelFile,
  around: Surroundings,
  { addresses, isConfigured }: { readonly addresses: string; readonly isConfigured: boolean },
): Difference[] {
  const told = banners(file)
  if (told.length > 0) return told
  const { first, second } = file
  const sections = differingSections(first, second)
  // Notes hold a digest of all the rest, and the header its size.
  const where = sections.find(({ name }) => !name.startsWith('.note'))
  const named = whereNamed(first, around.firstPaths)
  const at = named ?? where?.offset ?? firstDifference(first, second)
  const difference = explainContent(file.path, () => [first, second], around, at)
  const place = placeInElf(first, at, addresses)
  const names = sections.map(({ name }) => name)
  return [
    {
      ...difference,
      field: [
        difference.field,
        ...(place === '' ? [] : [place]),
        ...(names.length < 2 ? [] : [`sections that differ: ${names.slice(0, 12).join(' ')}`]),
      ].join('; '),
      // The same place of the other file holds something else, when the files have another layout.
      ...(named === undefined
        ? {}
        : { second: shownAt(second, whereNamed(second, around.secondPaths) ?? at) }),
      ...(isConfigured ? { cause: 'its configuration differs: see there' } : {}),
    },
  ]
}

/** Offset of the first of these paths that a file holds; undefined when it holds none. */
function whereNamed(file: Buffer, paths: readonly string[]): number | undefined {
  const found = paths.filter((path) => path.length > 1).map((path) => file.indexOf(path))
  const [first] = found.filter((at) => at >= 0).sort((a, b) => a - b)
  return first
}

/** `Linux version <release> (<user>@<host>) (<compiler>, <linker>) #<number> <flags and time>` */
const BANNER = /Linux version (\S+) \(([^ )]+)\) \(([^\n\0]*)\) #(\d+) ([^\n\0]+)\n/
/** The same without its beginning, as in the header of a packed kernel of x86. Source: linux, arch/x86/boot/version.c */
const SHORT_BANNER = /(\d+\.\d+\.\d+\S*) \(([^ )]+)\)() #(\d+) ([^\n\0]+)\0/

const PARTS: readonly (readonly [string, string])[] = [
  ['release', 'another version of the sources, or another LOCALVERSION'],
  ['builder', 'who compiled it and on which host: KBUILD_BUILD_USER or KBUILD_BUILD_HOST did not decide it'],
  ['compiler', 'another compiler or linker'],
  ['build number', 'how often it was linked: KBUILD_BUILD_VERSION did not decide it'],
  ['time', 'the clock or the time zone of the build: KBUILD_BUILD_TIMESTAMP did not decide it'],
]

/** What differs in the line that a kernel says of itself; nothing where that is the same or not found. */
function banners({ path, first, second }: KernelFile): Difference[] {
  const read = (bytes: Buffer): readonly string[] => {
    const text = bytes.toString('latin1')
    return (BANNER.exec(text) ?? SHORT_BANNER.exec(text))?.slice(1) ?? []
  }
  const [a, b] = [read(first), read(second)]
  return PARTS.flatMap(([part, cause], index) =>
    a[index] === b[index]
      ? []
      : [{ path, field: `banner, ${part}`, first: a[index] ?? '', second: b[index] ?? '', cause }],
  )
}
