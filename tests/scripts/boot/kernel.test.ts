// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { findKernel, kernelPackages, unpackedKernel } from '../../../scripts/boot/kernel.ts'
import { configOf } from '../../../scripts/kernel-config.ts'
import { parseSettings } from '../../../scripts/settings.ts'
import { openWorkspace } from '../../../scripts/workspace.ts'
import { startDebian } from '../../mirrors/archive.ts'
import { ODD_NAME, openScratch } from '../../system/user.ts'

/** What packages depend on, by name. */
function shows(depends: Readonly<Record<string, string>>): (name: string) => Promise<string> {
  return (name) => Promise.resolve(`Package: ${name}\nDepends: ${depends[name] ?? 'libc6'}\nSize: 1\n`)
}

t.test('the packages of a kernel are found: one of them, or a package per part', async (t) => {
  const bookworm = shows({
    'linux-image-cloud-amd64': 'linux-image-6.1.0-50-cloud-amd64 (= 6.1.176-1)',
    'linux-image-6.1.0-50-cloud-amd64':
      'kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.1) | linux-initramfs-tool',
  })
  t.strictSame(await kernelPackages('linux-image-cloud-amd64', bookworm), [
    'linux-image-6.1.0-50-cloud-amd64',
  ])
  const release = '7.2.13+deb14-cloud-amd64'
  const parts = ['base', 'binary', 'modules'].map((part) => `linux-${part}-${release}`)
  const sid = shows({
    'linux-image-cloud-amd64': `linux-base-cloud-amd64 (= 7.2.13-1), linux-image-${release} (= 7.2.13-1)`,
    [`linux-image-${release}`]: `dracut, ${parts.map((name) => `${name} (= 7.2.13-1)`).join(', ')}`,
    [`linux-modules-${release}`]: `kmod, linux-base-${release} (= 7.2.13-1)`,
  })
  t.strictSame(await kernelPackages('linux-image-cloud-amd64', sid), [`linux-image-${release}`, ...parts])
  t.strictSame(await kernelPackages('linux-image-mine', shows({})), ['linux-image-mine'])
})

t.test('the kernel is in /boot or beside its modules, and so is its configuration', async (t) => {
  const kernel = { vmlinuz: '', config: 'CONFIG_X=y\n', kernel: {} }
  const beside = t.testdir({ usr: { lib: { modules: { '7.2.13+deb14': kernel } } } })
  const folder = join(beside, 'usr/lib/modules/7.2.13+deb14')
  t.strictSame(unpackedKernel(beside, 'x'), {
    file: join(folder, 'vmlinuz'),
    origin: 'x',
    modulesDir: folder,
  })
  t.equal(configOf(join(folder, 'vmlinuz')), join(folder, 'config'))
  await t.test('in /boot', async (t) => {
    const root = t.testdir({
      boot: { 'vmlinuz-6.1': '', 'config-6.1': '' },
      lib: { modules: { '6.1': {}, '6.2': {} } },
    })
    const found = unpackedKernel(root, 'x')
    t.strictSame(found, {
      file: join(root, 'boot/vmlinuz-6.1'),
      origin: 'x',
      modulesDir: join(root, 'lib/modules/6.1'),
    })
    t.equal(configOf(found.file), join(root, 'boot/config-6.1'))
  })
  await t.test('or nowhere', async (t) => {
    const root = t.testdir({ usr: {} })
    t.throws(() => unpackedKernel(root, 'x'), {
      code: 'E_INPUT',
      message: `${root}: the package has no kernel`,
    })
  })
})

const GUEST = { distro: 'debian', release: 'bookworm', arch: 'x86_64', isMeasured: false } as const

t.test('the kernel of a distro is fetched and verified, whatever the folder is called', async (t) => {
  const { scratch } = openScratch(t)
  const [debian, other] = [await startDebian(true), await startDebian(true)]
  t.teardown(() => Promise.all([debian.close(), other.close()]))
  const files = join(scratch, 'files')
  for (const path of ['boot', 'lib/modules/6.1.0-1-test']) mkdirSync(join(files, path), { recursive: true })
  writeFileSync(join(files, 'boot/vmlinuz-6.1.0-1-test'), 'a kernel')
  debian.add({ name: 'linux-image-cloud-amd64', version: '1', files })
  const REPO_KEYRING = join(scratch, `${ODD_NAME}.gpg`)
  writeFileSync(REPO_KEYRING, readFileSync(debian.keyring))
  const find = (name: string, keyring: string) => {
    const given = { DISTRO: 'debian', REPO_URL: debian.url, REPO_KEYRING: keyring, ARCH: 'x86_64' }
    const settings = parseSettings({ ...given, WORKDIR: join(scratch, name, ODD_NAME) })
    return findKernel(settings, openWorkspace(settings), GUEST)
  }
  await t.rejects(find('stranger', other.keyring), { code: 'E_COMMAND' }, "another archive's key")
  const { file, modulesDir } = await find('own', REPO_KEYRING)
  t.equal(readFileSync(file, 'utf8'), 'a kernel')
  t.match(modulesDir, /lib\/modules\/6\.1\.0-1-test$/)
})
