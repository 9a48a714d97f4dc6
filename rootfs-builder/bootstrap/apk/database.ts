// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import { posix } from 'node:path'

import { pack } from 'tar-stream'

import { exists, makeFolder, writeText } from '../../guest.ts'
import type { Guest } from '../../guest.ts'
import type { InstalledFile, Installation } from './install.ts'
import type { PackageFacts } from './package.ts'

/**
 * Write apk's database, so that apk in the guest lists, verifies and upgrades what was installed.
 * Source: apk-v2(5), and the files of an installed Alpine.
 *
 * @param facts world, repositories and architecture as apk's own files name them
 */
export async function writeDatabase(
  installation: Installation,
  packages: readonly PackageFacts[],
  facts: {
    readonly world: readonly string[]
    readonly repositories: readonly string[]
    readonly arch: string
    readonly keys: ReadonlyMap<string, string>
    readonly epochSeconds: number
  },
): Promise<void> {
  const { guest } = installation
  const write = (path: string, lines: readonly string[]): void => {
    writeText(guest, path, lines.map((line) => `${line}\n`).join(''))
  }
  for (const folder of ['etc/apk/keys', 'lib/apk/db', 'var/cache/apk', 'var/lib/apk'])
    makeFolder(guest, folder)
  write('etc/apk/world', [...facts.world].sort())
  write('etc/apk/repositories', facts.repositories)
  write('etc/apk/arch', [facts.arch])
  for (const [name, text] of facts.keys) {
    // A package that brings the key stays the owner of its file.
    if (!exists(guest, `etc/apk/keys/${name}`)) writeText(guest, `etc/apk/keys/${name}`, text)
  }
  const paragraphs = packages.map((open) => [
    ...open.item.fields,
    ...(open.replaces.length === 0 ? [] : [`r:${open.replaces.map(({ text }) => text).join(' ')}`]),
    ...(open.replacesPriority === 0 ? [] : [`q:${String(open.replacesPriority)}`]),
    ...(open.item.repository.tag === undefined ? [] : [`s:${open.item.repository.tag}`]),
    ...fileLines(installation.files.get(open.item.name) ?? []),
    '',
  ])
  write('lib/apk/db/installed', paragraphs.flat())
  write(
    'lib/apk/db/triggers',
    packages
      .filter(({ triggers }) => triggers.length > 0)
      .map(({ item, triggers }) => [item.checksum, ...triggers].join(' ')),
  )
  writeText(guest, 'lib/apk/db/lock', '', 0o600)
  await writeScripts(guest, packages, facts.epochSeconds)
}

/** Folders `F:`, each with its files `R:`, and owners and modes where they are not the usual ones. */
function fileLines(files: readonly InstalledFile[]): string[] {
  const byFolder = new Map<string, InstalledFile[]>()
  const folders = new Map<string, InstalledFile>()
  for (const file of files) {
    if (file.kind === 'folder') {
      folders.set(file.path, file)
      if (!byFolder.has(file.path)) byFolder.set(file.path, [])
      continue
    }
    const parent = posix.dirname(file.path)
    const folder = parent === '.' ? '' : parent
    const own = byFolder.get(folder)
    if (own === undefined) byFolder.set(folder, [file])
    else own.push(file)
  }
  return [...byFolder].flatMap(([folder, own]) => [
    `F:${folder}`,
    ...rights('M', folders.get(folder), '0:0:755'),
    ...own.flatMap((file) => [
      `R:${posix.basename(file.path)}`,
      ...rights('a', file, '0:0:644'),
      `Z:Q1${file.sha1 ?? ''}`,
    ]),
  ])
}

function rights(letter: string, file: InstalledFile | undefined, usual: string): string[] {
  if (file === undefined) return []
  const digest = file.xattrs === undefined ? '' : `:Q1${xattrsDigest(file.xattrs)}`
  const own = `${String(file.uid)}:${String(file.gid)}:${file.mode.toString(8)}${digest}`
  return own === usual ? [] : [`${letter}:${own}`]
}

/** Digest of all attributes by their names, each text after its length. Source: apk-tools 2.14, what it writes */
function xattrsDigest(xattrs: ReadonlyMap<string, Buffer>): string {
  const hash = createHash('sha1')
  for (const part of [...xattrs].flatMap(([name, value]) => [Buffer.from(name), value])) {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(part.length)
    hash.update(length).update(part)
  }
  return hash.digest('base64')
}

/** Scripts of all packages, which apk runs when it upgrades or removes them. */
async function writeScripts(
  guest: Guest,
  packages: readonly PackageFacts[],
  epochSeconds: number,
): Promise<void> {
  const archive = pack()
  for (const { item, scripts } of packages) {
    for (const [moment, content] of scripts) {
      const name = `${item.name}-${item.version}.${item.checksum}.${moment}`
      archive.entry({ name, mode: 0o755, mtime: new Date(epochSeconds * 1000) }, content)
    }
  }
  archive.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of archive) chunks.push(chunk as Buffer)
  writeText(guest, 'lib/apk/db/scripts.tar', Buffer.concat(chunks))
}
