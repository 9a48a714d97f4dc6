// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

import t from 'tap'

import { environmentOf, inputPaths, isBelow, mountsOf, outermost } from '../../../scripts/container/places.ts'
import type { ContainerStep } from '../../../scripts/container/privileges.ts'
import { PROJECT_ROOT } from '../../../scripts/paths.ts'
import { hostArch, parseSettings } from '../../../scripts/settings.ts'
import { SETTINGS } from '../../../scripts/settings-table.ts'
import type { SettingRow } from '../../../scripts/settings-table.ts'

const STEPS: readonly ContainerStep[] = ['rootfs', 'image', 'initrd', 'kernel']

/** Make a folder and return its path. */
function mkdirp(path: string): string {
  mkdirSync(path, { recursive: true })
  return path
}

t.test('no default of any setting brings a folder of the host into a container', async (t) => {
  const nowhere = { LOCK_FILE: '/nowhere', VENDOR_DIR: '/nowhere' }
  for (const step of STEPS) t.strictSame(inputPaths(step, parseSettings(nowhere)), [], step)
})

t.test('a file is seen by the steps that read it, and what is written elsewhere by none', async (t) => {
  const folder = t.testdir({ key: '', cert: '', ring: '', overlay: {}, patches: {}, usr: {}, repo: {} })
  const at = (name: string) => join(folder, name)
  const settings = parseSettings({
    ...{ VERITY_KEY: at('key'), VERITY_CERT: at('cert'), REPO_KEYRING: at('ring') },
    ...{ ROOTFS_OVERLAY: at('overlay'), KERNEL_PATCHES: at('patches'), AGENT_REPO: at('repo') },
    ...{ PREFIX: at('usr'), DESTDIR: at('usr'), INSTALL_DIR: at('usr'), SIGN_KEY: at('key') },
  })
  t.strictSame([...inputPaths('rootfs', settings)].sort(), [at('overlay'), at('repo'), at('ring')])
  t.strictSame([...inputPaths('image', settings)].sort(), [at('cert'), at('key')])
  t.strictSame(inputPaths('initrd', settings), [])
  t.strictSame(inputPaths('kernel', settings), [at('patches')])
})

t.test('every setting that is a path is seen by a step, or is known not to be', async (t) => {
  const folder = t.testdir()
  const names = (Object.entries(SETTINGS) as [string, SettingRow][]).flatMap(([name, row]) =>
    row.type === 'path' ? [name] : [],
  )
  const settings = parseSettings(Object.fromEntries(names.map((name) => [name, mkdirp(join(folder, name))])))
  const seen = STEPS.flatMap((step) => inputPaths(step, settings)).map((path) => basename(path))
  t.strictSame(names.filter((name) => !seen.includes(name)).sort(), [
    // Written, and lent as such.
    ...['CACHE_DIR'],
    ...['DESTDIR', 'IMAGES_BUILD_DEST', 'INSTALL_DIR'],
    // Of steps that no container does.
    ...['KERNEL', 'PREFIX'],
    ...['ROOTFS_BUILD_DEST', 'ROOTFS_DIR', 'SIGN_KEY', 'VERIFY_KEY', 'WORKDIR'],
  ])
})

t.test('a lock and what it names are seen where packages or sources are had', async (t) => {
  const folder = t.testdir({ 'a.lock': '', vendor: {} })
  const settings = parseSettings({ LOCK_FILE: join(folder, 'a.lock'), VENDOR_DIR: join(folder, 'vendor') })
  const both = [settings.LOCK_FILE, settings.VENDOR_DIR]
  t.strictSame(
    STEPS.map((step) => inputPaths(step, settings)),
    [both, [], [], both],
  )
  t.strictSame(inputPaths('rootfs', parseSettings({ LOCK_FILE: '/dev/null' })), [], 'a device is everywhere')
})

t.test('what is read cannot be written, and no path is mounted twice', async (t) => {
  const mounts = mountsOf({
    argv: [],
    inputs: ['/keys/a', '/work/overlay', '/out/wd/own'],
    source: '/elsewhere/rootfs',
    outputs: ['/out/wd', '/out/images'],
    cacheDir: '/out/wd/cache',
  })
  t.strictSame(
    mounts.sort(),
    [
      '/elsewhere/rootfs:/elsewhere/rootfs:ro',
      '/keys/a:/keys/a:ro',
      '/out/images:/out/images',
      '/out/wd:/out/wd',
      '/work/overlay:/work/overlay:ro',
      ...[`${PROJECT_ROOT}:${PROJECT_ROOT}:ro`],
    ].sort(),
  )
  t.strictSame(outermost(['/a/b', '/a', '/ab', '/a']), ['/a', '/ab'])
  t.ok(isBelow('/x', '/'))
  t.notOk(isBelow('/ab', '/a'))
  t.notOk(isBelow('/a', '/a'))
})

t.test('a container is told every setting, with paths of the host, and to use no engine', async (t) => {
  const folder = t.testdir()
  mkdirSync(join(folder, 'over'))
  writeFileSync(join(folder, 'ring'), '')
  const given = {
    ...{ WORKDIR: 'relative/work', USE_DOCKER: 'yes', BUILDER: 'tcp://x:1', OS_VERSION: 'bookworm' },
    ...{ REPO_KEYRING: join(folder, 'ring'), no_proxy: 'a.example', EXTRA_PKGS: 'less vim' },
  }
  const before = { ...process.env }
  t.teardown(() => {
    process.env = before
  })
  process.env = { ...given, PATH: '/bin', SOMETHING: 'else' }
  const settings = parseSettings(given)
  const environment = environmentOf(settings, hostArch(), 7)
  t.match(environment, {
    WORKDIR: join(process.cwd(), 'relative/work'),
    REPO_KEYRING: join(folder, 'ring'),
    NO_PROXY: 'a.example',
    EXTRA_PKGS: 'less vim',
    OS_VERSION: 'bookworm',
    SOURCE_DATE_EPOCH: '7',
    USE_DOCKER: 'no',
    USE_PODMAN: 'no',
    BUILDER: '',
  })
  t.notOk('PATH' in environment || 'SOMETHING' in environment)
  t.equal(environment['VENDOR_DIR'], join(process.cwd(), 'vendor'), 'a default that is relative')
  t.equal(environment['LOCK_FILE'], '/dev/null', 'a lock that is not there, and that nobody named')
  t.notOk('ARCH' in environment, 'which is the same there')
  const other = hostArch() === 's390x' ? 'x86_64' : 's390x'
  t.equal(environmentOf(settings, other, 7)['ARCH'], hostArch(), 'and told where it is not')
})
