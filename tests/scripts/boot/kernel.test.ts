// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { findKernel } from '../../../scripts/boot/kernel.ts'
import { parseSettings } from '../../../scripts/settings.ts'
import { openWorkspace } from '../../../scripts/workspace.ts'
import { startDebian } from '../../mirrors/archive.ts'
import { ODD_NAME, openScratch } from '../../system/user.ts'

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
