// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

import { sha256 } from '../scripts/digest.ts'
import { BuildError } from '../scripts/errors.ts'

/** The files of a configuration folder, in the order dracut reads them. */
export function configFiles(folder: string): string[] {
  if (!existsSync(folder)) {
    throw new BuildError('E_CONFIG', `DRACUT_CONF_DIR=${folder}: no such folder`, {
      hint: 'leave it out for dracut/dracut.conf.d',
    })
  }
  return readdirSync(folder)
    .filter((name) => name.endsWith('.conf'))
    .sort()
    .map((name) => join(folder, name))
}

/** `drivers="a b"`, of which the last assignment counts and `+=` adds. Source: dracut.conf(5) */
export function readDrivers(files: readonly string[]): string[] {
  let drivers: string[] = []
  for (const file of files) {
    for (const [, plus, value = ''] of readFileSync(file, 'utf8').matchAll(
      /^\s*drivers(\+)?=["']?([^"'#\n]*)["']?/gm,
    )) {
      const words = value.split(/\s+/).filter((word) => word !== '')
      drivers = plus === undefined ? words : [...drivers, ...words]
    }
  }
  return [...new Set(drivers)]
}

/** Names of a module as people write them and as files are named. */
function moduleName(text: string): string {
  return text.replaceAll('-', '_')
}

/**
 * Check that a kernel has every driver, with all that it needs, and return what tells that they changed.
 *
 * @param modulesDir `lib/modules/<version>` of that kernel
 * @throws BuildError E_CONFIG naming the kernel that is not there, E_INPUT naming the modules that it lacks
 */
export function checkDrivers(drivers: readonly string[], version: string, modulesDir: string): string {
  const index = join(modulesDir, 'modules.dep')
  if (!existsSync(index)) {
    throw new BuildError('E_CONFIG', `DRACUT_KVERSION=${version}: ${modulesDir} holds no modules`, {
      because: [`this host has: ${installedKernels(join(modulesDir, '..')).join(', ') || 'none'}`],
      hint: 'install the modules of the guest kernel there, or give the version of one that is there',
    })
  }
  const text = readFileSync(index, 'utf8')
  const files = new Map<string, readonly string[]>()
  for (const line of text.split('\n')) {
    const [file = '', needs = ''] = line.split(':')
    const name = /([^/]+)\.ko(\.\w+)?$/.exec(file)?.[1]
    if (name === undefined) continue
    files.set(moduleName(name), [file, ...needs.split(' ').filter((word) => word !== '')])
  }
  const builtIn = join(modulesDir, 'modules.builtin')
  const inKernel = new Set(
    (existsSync(builtIn) ? readFileSync(builtIn, 'utf8').split('\n') : []).map((line) =>
      moduleName(/([^/]+)\.ko$/.exec(line)?.[1] ?? ''),
    ),
  )
  const missing = drivers.filter((name) => !files.has(moduleName(name)) && !inKernel.has(moduleName(name)))
  const broken = drivers.flatMap((name) =>
    (files.get(moduleName(name)) ?? [])
      .filter((file) => !existsSync(join(modulesDir, file)))
      .map((file) => `${name} needs ${file}, which is not there`),
  )
  if (missing.length > 0 || broken.length > 0) {
    throw new BuildError('E_INPUT', `the kernel ${version} lacks modules that drivers= names`, {
      because: [...missing.map((name) => `${name}: no such module, nor built in`), ...broken],
      hint: 'check drivers= in dracut.conf.d/10-drivers.conf and DRACUT_KVERSION',
    })
  }
  return sha256(text)
}

function installedKernels(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder).sort() : []
}
