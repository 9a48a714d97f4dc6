// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join, relative } from 'node:path'

import { BUILD_ROOT, PROJECT_ROOT } from './paths.ts'

/** Folders of the build that run; its tests are not among them. */
const ROOMS = ['scripts', 'rootfs-builder', 'image-builder', 'initrd-builder', 'dracut', 'kernel', 'proof']

/** What is no data that steps read: sources, which are compiled, texts for people, and templates of sources. */
const NO_DATA = /\.(ts|md|txt)$/

/** Files and folders of the project that build guests, as paths below its root. */
export function runtimeFiles(): string[] {
  return [
    'package.json',
    ...bundleFiles(),
    ...ROOMS.map((room) => `build/${room}`),
    ...ROOMS.flatMap((room) => dataOf(room)),
    ...runtimePackages(),
  ].filter((path) => existsSync(join(PROJECT_ROOT, path)))
}

/** What the last compilation bundled, and not what is left of those before. Source: esbuild, `--metafile` */
function bundleFiles(): string[] {
  const list = 'bundle.json'
  const { outputs } = JSON.parse(readFileSync(join(BUILD_ROOT, list), 'utf8')) as { outputs: object }
  return [`build/${list}`, ...Object.keys(outputs)]
}

function dataOf(room: string): string[] {
  const folder = join(PROJECT_ROOT, room)
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !NO_DATA.test(entry.name))
    .map((entry) => relative(PROJECT_ROOT, join(entry.parentPath, entry.name)))
}

/** Packages the steps import, and not those the tests and checks need. Source: package-lock.json, field `dev`. */
function runtimePackages(): string[] {
  const file = join(PROJECT_ROOT, 'package-lock.json')
  // What was installed without it has the packages it needs, and no others.
  if (!existsSync(file)) return ['node_modules']
  const lock = JSON.parse(readFileSync(file, 'utf8')) as {
    packages: Readonly<Record<string, { readonly dev?: boolean }>>
  }
  return Object.entries(lock.packages)
    .filter(([path, { dev }]) => path !== '' && dev !== true)
    .map(([path]) => path)
}
