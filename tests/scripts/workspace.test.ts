// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { PROJECT_ROOT } from '../../scripts/paths.ts'
import {
  isWorkspace,
  openWorkspace,
  projectVersion,
  removeLeftovers,
  spreadFolders,
} from '../../scripts/workspace.ts'

function open(folder: string, rootfs: string = '', images: string = '') {
  return openWorkspace({
    WORKDIR: folder,
    CACHE_DIR: '',
    ROOTFS_BUILD_DEST: rootfs,
    IMAGES_BUILD_DEST: images,
  })
}

t.test('a new and an empty folder become a workspace, which opens again', async (t) => {
  const base = t.testdir({ empty: {} })
  for (const folder of [join(base, 'a/b'), join(base, 'empty')]) {
    const workspace = open(folder)
    t.ok(isWorkspace(folder))
    t.ok(statSync(workspace.cacheDir).isDirectory())
    t.ok(statSync(workspace.logDir).isDirectory())
    writeFileSync(join(folder, 'output'), '')
    t.strictSame(open(folder), workspace)
  }
})

/** What chattr(1) says of a folder, or undefined where the file system has no such marks. */
function marks(folder: string): string | undefined {
  const { status, stdout } = spawnSync('lsattr', ['-d', folder], { encoding: 'utf8' })
  return status === 0 ? stdout.split(' ')[0] : undefined
}

t.test('trees of a workspace are put apart, and no folder of others is changed', async (t) => {
  const base = t.testdir({ other: {} })
  const workDir = join(base, 'w')
  open(workDir)
  const before = marks(join(base, 'other'))
  for (const folder of [workDir, join(base, 'other'), join(base, 'absent')]) await spreadFolders(folder)
  t.equal(marks(join(base, 'other')), before)
  const hasMark = spawnSync('chattr', ['+T', join(base, 'other')]).status === 0
  t.equal(marks(workDir)?.includes('T') ?? false, hasMark)
})

t.test('rootfs and images may go elsewhere', async (t) => {
  const base = t.testdir()
  const workspace = open(join(base, 'w'), join(base, 'r'), join(base, 'i'))
  t.equal(workspace.rootfsDest, join(base, 'r'))
  t.equal(workspace.imagesDest, join(base, 'i'))
  t.ok(existsSync(join(base, 'r')) && existsSync(join(base, 'i')))
})

t.test('a folder with other things in it is refused and not changed', async (t) => {
  const folder = t.testdir({ thesis: 'text' })
  t.throws(() => open(folder), {
    code: 'E_CONFIG',
    message: `WORKDIR=${folder}: is not an empty folder, nor one that osbuilder made`,
  })
  t.strictSame(readdirSync(folder), ['thesis'])
  t.equal(readFileSync(join(folder, 'thesis'), 'utf8'), 'text')
})

t.test('the root folder and the home folder are refused', async (t) => {
  t.throws(() => open('/'), { code: 'E_CONFIG' })
  t.throws(() => open(homedir()), { code: 'E_CONFIG' })
})

t.test('an empty home folder is refused as well', async (t) => {
  const home = process.env['HOME']
  t.teardown(() => {
    process.env['HOME'] = home
  })
  process.env['HOME'] = t.testdir()
  t.throws(() => open(homedir()), { code: 'E_CONFIG' })
})

t.test('a file where the folder should be is an error of the settings', async (t) => {
  t.throws(() => open(join(t.testdir({ file: '' }), 'file')), { code: 'E_CONFIG' })
})

t.test('leftovers of killed builds are removed from every folder that has outputs', async (t) => {
  const base = t.testdir()
  const workspace = open(join(base, 'w'), join(base, 'r'), join(base, 'i'))
  const name = '.out.tmp-999999999-1'
  const folders = [
    workspace.workDir,
    workspace.cacheDir,
    workspace.logDir,
    workspace.rootfsDest,
    workspace.imagesDest,
    // What dnf keeps of mirrors, and objects of kernels.
    join(workspace.cacheDir, 'mirror'),
    join(workspace.workDir, 'kernel'),
  ]
  for (const folder of folders) {
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, name), '')
    writeFileSync(join(folder, 'kept'), '')
  }
  removeLeftovers(workspace)
  for (const folder of folders) {
    t.notOk(existsSync(join(folder, name)), folder)
    t.ok(existsSync(join(folder, 'kept')), folder)
  }
})

t.test('the version of the project is that of package.json', async (t) => {
  t.match(projectVersion(PROJECT_ROOT), /^\d+\.\d+\.\d+/)
})
