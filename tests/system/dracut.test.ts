// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { asNormalUser, bootCache, make } from './user.ts'

t.setTimeout(20 * 60 * 1000)

/** The boot kernel is shared with the other boots through its cache. */
const CACHE_DIR = bootCache()
const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
t.teardown(() => {
  rmSync(scratch, { recursive: true, force: true })
})

const COMMON = {
  BUILD_METHOD: 'dracut',
  WORKDIR: join(scratch, 'w'),
  CACHE_DIR,
  SOURCE_DATE_EPOCH: '1795000000',
  INITRD_COMPRESSION: 'zstd',
  BOOT_TIMEOUT: '300',
}

const FILES = { image: 'kata-containers.img', initrd: 'kata-containers-initrd.img' } as const

function digestOf(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex')
}

for (const [agentInit, pid1] of [
  ['yes', 'agent'],
  ['no', 'systemd'],
] as const) {
  for (const kind of ['initrd', 'image'] as const) {
    t.test(`the ${kind} of this host comes up with ${pid1} as PID 1`, (t) => {
      const settings = { ...COMMON, AGENT_INIT: agentInit }
      const built = make(kind, settings)
      t.equal(built.status, 0, built.said)
      const booted = make('boot', {
        ...settings,
        BOOT: kind,
        BOOT_COMMAND: 'cat /etc/hostname; ls -d /etc/os-release',
      })
      t.equal(booted.status, 0, booted.said)
      t.match(booted.said, `(${pid1})`)
      t.match(booted.said, 'localhost\n', 'it knows nothing of the name of this host')
      t.match(booted.stdout, 'agent ready in')
      t.end()
    })
  }
}

t.test('the folder is there to look at, and root owns all of it', (t) => {
  t.equal(make('rootfs', COMMON).status, 0)
  const rootfs = join(COMMON.WORKDIR, 'dracut_rootfs')
  t.match(readdirSync(rootfs), ['bin', 'dev', 'etc'])
  t.equal(
    execFileSync('find', [rootfs, '!', '-user', '0', '-o', '!', '-group', '0'], { encoding: 'utf8' }),
    '',
  )
  t.match(readFileSync(join(rootfs, 'etc/passwd'), 'utf8'), /^root:x:0:0:/)
  t.match(make('rootfs', COMMON).said, 'unchanged')
  t.end()
})

t.test('a normal user and root get the same bytes, in any folder', (t) => {
  const mine = join(scratch, 'mine')
  mkdirSync(mine)
  const settings = { ...COMMON, WORKDIR: join(mine, 'w'), CACHE_DIR: '', AGENT_INIT: 'yes' }
  execFileSync('chmod', ['755', scratch])
  const run = asNormalUser(mine, settings)
  for (const name of ['rootfs', 'image', 'initrd'] as const) {
    const { status, said } = run(name)
    t.equal(status, 0, said)
  }
  t.equal(make('all', { ...COMMON, AGENT_INIT: 'yes' }).status, 0)
  for (const file of Object.values(FILES)) {
    t.equal(digestOf(join(settings.WORKDIR, file)), digestOf(join(COMMON.WORKDIR, file)), file)
  }
  t.end()
})

t.test('drivers come with what they need, and are loaded when the guest boots', (t) => {
  const boot = join(CACHE_DIR, 'boot')
  const entry = readdirSync(boot).find((key) => existsSync(join(boot, key, 'lib/modules'))) ?? ''
  const version = readdirSync(join(boot, entry, 'lib/modules')).find((name) => name.includes('amd64')) ?? ''
  const conf = join(scratch, 'conf')
  mkdirSync(conf)
  const settings = {
    ...COMMON,
    AGENT_INIT: 'no',
    DRACUT_CONF_DIR: conf,
    DRACUT_KVERSION: version,
    KERNEL_MODULES_DIR: join(boot, entry, 'lib/modules', version),
  }
  const drivers = (names: string): void => {
    writeFileSync(join(conf, '10-drivers.conf'), `drivers="${names}"\n`)
  }
  drivers('bridge dummy')
  const built = make('initrd', settings)
  t.equal(built.status, 0, built.said)
  const booted = make('boot', { ...settings, BOOT: 'initrd', BOOT_COMMAND: 'lsmod' })
  t.equal(booted.status, 0, booted.said)
  t.match(booted.said, /^dummy /m)
  t.match(booted.said, /^bridge /m)
  t.match(booted.said, /^stp /m, 'which another needs')
  const asInit = { ...settings, AGENT_INIT: 'yes' }
  const small = make('initrd', asInit)
  t.equal(small.status, 0, small.said)
  const loaded = make('boot', { ...asInit, BOOT: 'initrd', BOOT_COMMAND: 'lsmod' })
  t.match(loaded.said, /^dummy /m, 'the bundled agent loads them where there is no systemd')
  t.match(loaded.said, /^bridge /m)
  drivers('bridge no_such_driver')
  const missing = make('initrd', settings)
  t.not(missing.status, 0)
  t.match(missing.said, /lacks modules that drivers= names[^]*no_such_driver: no such module, nor built in/)
  const unknown = make('initrd', { ...settings, KERNEL_MODULES_DIR: '', DRACUT_KVERSION: '1.2.3' })
  t.match(unknown.said, /DRACUT_KVERSION=1.2.3: \/lib\/modules\/1.2.3 holds no modules/)
  const unnamed = make('initrd', { ...settings, DRACUT_KVERSION: '' })
  t.match(unnamed.said, /DRACUT_KVERSION is not set[^]*DRACUT_KVERSION=\$\(uname -r\)/)
  t.end()
})

t.test('what makes no sense here is refused up front', (t) => {
  const foreign = make('rootfs', { ...COMMON, ARCH: 's390x' })
  t.match(foreign.said, 'ARCH=s390x: dracut takes the guest from this host')
  const packages = make('rootfs', { ...COMMON, EXTRA_PKGS: 'curl' })
  t.match(packages.said, 'EXTRA_PKGS=curl: dracut installs no packages')
  t.match(make('rootfs', { BUILD_METHOD: 'magic' }).said, 'BUILD_METHOD=magic: expected distro or dracut')
  t.end()
})
