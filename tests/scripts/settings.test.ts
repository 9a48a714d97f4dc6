// SPDX-License-Identifier: Apache-2.0
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

import t from 'tap'

import { BuildError } from '../../scripts/errors.ts'
import { parseSettings, readSettings, select } from '../../scripts/settings.ts'
import type { RawSettings, SettingsCheck } from '../../scripts/settings.ts'

/** The problem lines of settings that must be refused. */
function problemsOf(raw: RawSettings, checks: readonly SettingsCheck[] = []): readonly string[] {
  try {
    parseSettings(raw, checks)
  } catch (error) {
    if (error instanceof BuildError) return error.because
    throw error
  }
  throw new Error('the settings were accepted')
}

t.test('no setting given is no problem', async (t) => {
  t.equal(parseSettings({}).BLOCK_SIZE, '4096')
})

t.test('all problems are told at once, with name, value and what was expected', async (t) => {
  const raw = {
    AGENT_INIT: 'perhaps',
    IMG_SIZE: '12MB',
    FS_TYPE: 'ntfs',
    REPO_URL: 'ftp://mirror',
    DISTRO: '../x',
  }
  const problems = problemsOf(raw)
  t.equal(problems.length, 5)
  for (const [name, value] of Object.entries(raw)) {
    t.ok(
      problems.some((line) => line.startsWith(`${name}=${value}: expected `)),
      name,
    )
  }
})

t.test('the error is E_CONFIG with status 78 and counts its problems', async (t) => {
  t.throws(() => parseSettings({ DEBUG: 'x' }), {
    code: 'E_CONFIG',
    exitStatus: 78,
    message: 'settings: 1 problem',
  })
  t.throws(() => parseSettings({ DEBUG: 'x', SECCOMP: 'x' }), { message: 'settings: 2 problems' })
})

t.test('a check over several settings speaks in the same run as a bad value', async (t) => {
  const check: SettingsCheck = ({ AGENT_BIN }) => [`AGENT_BIN=${AGENT_BIN}: checked`]
  t.strictSame(problemsOf({ DEBUG: 'x', AGENT_BIN: 'mine' }, [check]).slice(1), ['AGENT_BIN=mine: checked'])
  t.strictSame(problemsOf({ AGENT_BIN: 'mine' }, [check]), ['AGENT_BIN=mine: checked'])
})

t.test('a boolean means what it says', async (t) => {
  for (const word of ['yes', 'true', '1', 'y', 'on', 'YES', ' yes ']) {
    t.equal(parseSettings({ AGENT_INIT: word }).AGENT_INIT, true, word)
  }
  for (const word of ['no', 'false', '0', 'n', 'off', 'False']) {
    t.equal(parseSettings({ SECCOMP: word }).SECCOMP, false, word)
  }
})

t.test('an empty value is the default', async (t) => {
  t.equal(parseSettings({ SECCOMP: '' }).SECCOMP, true)
  t.equal(parseSettings({ IMG_SIZE: ' ' }).IMG_SIZE, undefined)
})

t.test('a setting comes from the environment, and a flag wins over it', async (t) => {
  process.env['AGENT_BIN'] = 'from-environment'
  t.teardown(() => {
    delete process.env['AGENT_BIN']
  })
  t.equal(readSettings().AGENT_BIN, 'from-environment')
  t.equal(readSettings({ AGENT_BIN: undefined }).AGENT_BIN, 'from-environment')
  t.equal(readSettings({ AGENT_BIN: 'from-flag' }).AGENT_BIN, 'from-flag')
})

t.test('a proxy may have its usual lower-case name', async (t) => {
  const settings = parseSettings({
    http_proxy: 'http://p:1',
    https_proxy: 'http://p:2',
    no_proxy: 'localhost',
  })
  t.equal(settings.HTTP_PROXY, 'http://p:1')
  t.equal(settings.HTTPS_PROXY, 'http://p:2')
  t.equal(settings.NO_PROXY, 'localhost')
})

t.test('a proxy that is exported empty in capitals does not hide the lower-case one', async (t) => {
  t.equal(parseSettings({ HTTP_PROXY: '', http_proxy: 'http://p:1' }).HTTP_PROXY, 'http://p:1')
})

t.test('a lower-case variable of another program is no setting', async (t) => {
  t.equal(parseSettings({ kernel: '/somewhere' }).KERNEL, '')
})

t.test('an integer names its range and unit when it is refused', async (t) => {
  t.equal(parseSettings({ IMG_SIZE: '256' }).IMG_SIZE, 256)
  for (const bad of ['1.5', '-1', '0x10', '1e3', '7', '12M', '99999999999']) {
    t.match(
      problemsOf({ IMG_SIZE: bad })[0],
      /^IMG_SIZE=.*: expected a whole number from 8 to \d+ \(MiB\)$/,
      bad,
    )
  }
})

t.test('a choice names all its values when it is refused', async (t) => {
  t.equal(parseSettings({ BOOT_DISK: 'nvdimm' }).BOOT_DISK, 'nvdimm')
  t.strictSame(problemsOf({ BOOT_DISK: 'ide' }), ['BOOT_DISK=ide: expected virtio-blk or nvdimm'])
})

t.test('a path is absolute and may begin with the home folder', async (t) => {
  t.equal(parseSettings({ WORKDIR: '~/work' }).WORKDIR, join(homedir(), 'work'))
  t.equal(parseSettings({ WORKDIR: '~' }).WORKDIR, homedir())
  t.equal(parseSettings({ WORKDIR: 'a/../b~c' }).WORKDIR, resolve('b~c'))
  t.equal(parseSettings({}).ROOTFS_DIR, '')
  t.match(problemsOf({ WORKDIR: 'a\nb' })[0], /one path on one line/)
})

t.test('words are separated by spaces, lines or commas, and none is empty', async (t) => {
  t.strictSame(parseSettings({ EXTRA_PKGS: ' vim,  less\n,curl ' }).EXTRA_PKGS, ['vim', 'less', 'curl'])
  t.strictSame(parseSettings({}).EXTRA_PKGS, [])
})

t.test('no word of EXTRA_PKGS is an option', async (t) => {
  for (const value of ['--help', 'curl -oDir=/', 'curl,-y']) {
    t.strictSame(problemsOf({ EXTRA_PKGS: value }), [
      `EXTRA_PKGS=${value}: expected names of packages, none with a dash in front`,
    ])
  }
  t.strictSame(parseSettings({ EXTRA_PKGS: 'libc6-dev curl- g++' }).EXTRA_PKGS, ['libc6-dev', 'curl-', 'g++'])
})

t.test('a URL loses its last slashes', async (t) => {
  t.equal(parseSettings({ REPO_URL: 'http://mirror/debian//' }).REPO_URL, 'http://mirror/debian')
})

t.test('a value that would be read as a flag or leave its folder is refused', async (t) => {
  t.ok(problemsOf({ AGENT_REPO: '--upload-pack=x' }).length)
  t.ok(problemsOf({ AGENT_VERSION: '-x' }).length)
  t.ok(problemsOf({ AGENT_SOURCE_DIR: '../up' }).length)
  t.ok(problemsOf({ AGENT_BIN: 'a/b' }).length)
})

t.test('settings and what is selected of them are frozen, and a selection has nothing else', async (t) => {
  const settings = parseSettings({})
  const chosen = select(settings, ['FS_TYPE', 'EXTRA_PKGS'])
  t.strictSame(Object.keys(chosen), ['FS_TYPE', 'EXTRA_PKGS'])
  t.ok(Object.isFrozen(settings))
  t.ok(Object.isFrozen(chosen))
  t.ok(Object.isFrozen(chosen.EXTRA_PKGS))
})
