// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'

import t from 'tap'

import { openApkIndex } from '../../rootfs-builder/bootstrap/apk/index.ts'
import { openPackage } from '../../rootfs-builder/bootstrap/apk/package.ts'
import { readKeys } from '../../rootfs-builder/bootstrap/apk/signature.ts'
import type { Keys } from '../../rootfs-builder/bootstrap/apk/signature.ts'
import { isVersion, satisfies } from '../../rootfs-builder/bootstrap/apk/version.ts'
import type { Operator } from '../../rootfs-builder/bootstrap/apk/version.ts'
import { PROJECT_ROOT } from '../../scripts/paths.ts'

/**
 * What others publish to test their readers of Alpine's formats with, read from outside of this repository:
 * `APK_TOOLS=` names a checkout of alpinelinux/apk-tools, `APKO=` one of chainguard-dev/apko.
 */
function checkout(name: string, path: string): string {
  const folder = process.env[name] ?? ''
  if (folder !== '' && existsSync(join(folder, path))) return join(folder, path)
  throw new Error(
    `${name}=${folder}: expected a checkout with ${path} in it; type ${name}=folder make test-long`,
  )
}

t.test("apk's published cases of versions", async (t) => {
  const lines = readFileSync(checkout('APK_TOOLS', 'test/unit/version.data'), 'utf8')
    .split('\n')
    .map((line) => line.replace(/\s*#.*$/, '').trim())
    .filter((line) => line !== '')
  t.ok(lines.length > 500, `${String(lines.length)} cases`)
  for (const line of lines) {
    const [, a, not, operator, b] = /^(\S+) (!?)([<>=~]+) (\S+)$/.exec(line) ?? []
    if (a === undefined || b === undefined) {
      const [, isWrong, version = ''] = /^(!?)(\S*)$/.exec(line) ?? []
      t.equal(isVersion(version), isWrong === '', line)
    } else t.equal(satisfies(a, operator as Operator, b), not === '', line)
  }
})

t.test("apko's indexes and packages, signed by Alpine, Wolfi and others", async (t) => {
  const root = checkout('APKO', 'pkg/apk/apk/testdata')
  const others = checkout('APKO', 'internal/cli/testdata')
  const files = [root, others].flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name)),
  )
  const keys: Keys = new Map([
    // Some packages are Alpine's own.
    ...readKeys(join(PROJECT_ROOT, 'rootfs-builder/alpine/keys'), 'alpine'),
    ...files.filter((file) => file.endsWith('.rsa.pub')).flatMap((file) => safeKeys(file)),
  ])
  let indexes = 0
  let packages = 0
  for (const file of files.filter((name) => name.endsWith('/APKINDEX.tar.gz'))) {
    let opened
    try {
      opened = await openApkIndex(readFileSync(file), { url: file, repository: { url: dirname(file) }, keys })
    } catch (error) {
      t.match(error, { code: 'E_SIGNATURE' }, `refused: ${file}`)
      continue
    }
    indexes += 1
    for (const item of opened.packages) {
      const apk = join(dirname(file), `${item.name}-${item.version}.apk`)
      if (!existsSync(apk)) continue
      try {
        const { facts, entries } = await openPackage(item, readFileSync(apk), keys)
        t.equal(facts.item, item)
        t.ok(entries.length > 0, apk)
        packages += 1
      } catch (error) {
        // Beside the index of one architecture lies a package of another.
        t.match(error, { code: 'E_SIGNATURE' }, `refused: ${apk}`)
      }
    }
    t.comment(`${file}: ${String(opened.packages.length)} packages, signed by ${opened.signer}`)
  }
  t.ok(indexes > 2 && packages > 2, `${String(indexes)} indexes, ${String(packages)} packages`)
})

/** A key of the fixtures that is none is one of theirs that shall not be read. */
function safeKeys(file: string): [string, NonNullable<ReturnType<Keys['get']>>][] {
  try {
    return [...readKeys(file, 'APKO')]
  } catch {
    return []
  }
}
