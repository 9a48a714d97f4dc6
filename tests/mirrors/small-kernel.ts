// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { holdsFor, isDefinite, parseExceptions } from '../../kernel/exceptions.ts'
import { PROJECT } from '../system/user.ts'

const VERSION = '9.8.7'

/** Ways to forget what a build should not depend on. Each is a line of the makefile. */
export const FAULTS = {
  clock: "KBUILD_BUILD_TIMESTAMP := $(shell date '+%a %b %e %H:%M:%S %Z %Y')",
  folder: 'KBUILD_CFLAGS := $(filter-out -fmacro-prefix-map=%,$(KBUILD_CFLAGS))',
  processors: 'MORE_CONFIG := echo CONFIG_NR_CPUS_FOUND=$(shell nproc) >>$(O)/.config',
} as const

/**
 * A makefile with the interface of the kernel's own: the same targets, variables, environment and files, and
 * what the environment does not say it takes from the machine, as the kernel's does.
 */
function makefile(fault: keyof typeof FAULTS | undefined): string {
  const [version = '', patchlevel = '', sublevel = ''] = VERSION.split('.')
  return [
    `VERSION = ${version}`,
    `PATCHLEVEL = ${patchlevel}`,
    `SUBLEVEL = ${sublevel}`,
    'EXTRAVERSION =',
    'RELEASE := $(VERSION).$(PATCHLEVEL).$(SUBLEVEL)$(LOCALVERSION)',
    'KBUILD_BUILD_USER ?= $(shell id -un)',
    'KBUILD_BUILD_HOST ?= $(shell uname -n)',
    'KBUILD_BUILD_TIMESTAMP ?= $(shell date)',
    'KBUILD_BUILD_VERSION ?= $(shell date +%N)',
    'KBUILD_CFLAGS := -O2 -ffreestanding -fno-pic -nostdlib -fmacro-prefix-map=$(CURDIR)/=',
    'MORE_CONFIG := :',
    fault === undefined ? '' : FAULTS[fault],
    'OBJECTS := $(patsubst %.c,$(O)/%.o,$(sort $(wildcard init/*.c)))',
    'BANNER := Linux version $(RELEASE) ($(KBUILD_BUILD_USER)@$(KBUILD_BUILD_HOST)) ($(shell gcc --version | head -n 1), ld) \\#$(KBUILD_BUILD_VERSION) SMP $(KBUILD_BUILD_TIMESTAMP)',
    '',
    '.PHONY: allnoconfig olddefconfig bzImage',
    'allnoconfig:',
    '\tgrep -vxFf absent $(KCONFIG_ALLCONFIG) | grep -v "is not set" | LC_ALL=C sort >$(O)/.config',
    '\t$(MORE_CONFIG)',
    'olddefconfig: ;',
    'bzImage: $(O)/arch/x86/boot/bzImage',
    '',
    '$(O)/%.o: %.c',
    '\t@echo "  CC      $*.o"',
    '\t@mkdir -p $(@D)',
    '\t$(CC) $(KBUILD_CFLAGS) \'-DBANNER="$(BANNER)\\n"\' -c -o $@ $(CURDIR)/$<',
    '$(O)/vmlinux: $(OBJECTS)',
    '\t$(CROSS_COMPILE)ld --build-id=sha1 -o $@ $^',
    '\tnm -n $@ >$(O)/System.map',
    '\tmkdir -p $(O)/include/config && echo $(RELEASE) >$(O)/include/config/kernel.release',
    '$(O)/arch/x86/boot/bzImage: $(O)/vmlinux',
    '\tmkdir -p $(@D) && gzip -n -c $< >$@',
    '',
  ].join('\n')
}

/** More than one file, so that several are compiled at once. */
const SOURCES: Readonly<Record<string, string>> = {
  'init/main.c':
    'extern const char *where(int); const char linux_banner[] = BANNER;\nvoid _start(void) { for (;;) where(0); }\n',
  ...Object.fromEntries(
    Array.from({ length: 8 }, (_, number) => [
      `init/part${String(number)}.c`,
      `const char *where${number === 0 ? '' : String(number)}(int x) { return x ? __FILE__ : "${String(number)}"; }\n`,
    ]),
  ),
}

/**
 * Write sources for KERNEL_TREE that are compiled in a second, through the step that compiles Linux.
 *
 * They are no Linux: what they show is that the step gives the compiler the same words twice, and that what is
 * forgotten is found and told.
 */
export function writeSmallKernel(folder: string, fault?: keyof typeof FAULTS): void {
  const list = readFileSync(join(PROJECT, 'kernel/exceptions.list'), 'utf8')
  // Symbols that a kernel of this version must not have, and those of them that it knows.
  const absent = parseExceptions(list, 'exceptions.list').filter(
    (one) => isDefinite(one) && holdsFor(one, 'x86_64', VERSION),
  )
  const known = absent.filter(({ kind }) => kind === 'unmet')
  const files: Readonly<Record<string, string>> = {
    ...SOURCES,
    Makefile: makefile(fault),
    Kconfig: known.map(({ name }) => `config ${name}\n\tbool "x"\n\tdepends on NEVER\n`).join('\n'),
    absent: absent.map(({ name }) => `CONFIG_${name}=y\n`).join(''),
    'arch/x86/Kconfig': '',
  }
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(folder, path, '..'), { recursive: true })
    writeFileSync(join(folder, path), content)
  }
}
