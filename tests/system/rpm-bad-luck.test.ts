// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { CENTOS, CLEARLINUX } from '../mirrors/rpm-distros.ts'
import { startRpmMirror } from '../mirrors/rpm.ts'
import { treeDigest } from './tree-digest.ts'
import { ended, leftovers, openScratch, startStep, step } from './user.ts'

t.setTimeout(15 * 60 * 1000)

const { scratch } = openScratch(t)
const centos = await startRpmMirror(CENTOS)
const clear = await startRpmMirror(CLEARLINUX)
t.teardown(() => Promise.all([centos.close(), clear.close()]))

const COMMON = { AGENT_INIT: 'yes', SOURCE_DATE_EPOCH: '1795000000' }
const SETTINGS = {
  centos: { ...COMMON, DISTRO: 'centos', REPO_URL: centos.url, REPO_KEYRING: centos.keyring },
  clearlinux: { ...COMMON, DISTRO: 'clearlinux', REPO_URL: clear.url, REPO_KEYRING: clear.keyring },
}

const WORKDIR = join(scratch, 'killed')

t.test('two builds at once in one folder, of one distro and of two, all end well', async (t) => {
  const settings = { ...SETTINGS.centos, WORKDIR }
  const three = [settings, settings, { ...SETTINGS.clearlinux, WORKDIR }].map((one) => step('rootfs', one))
  for (const { status, said } of await Promise.all(three)) t.equal(status, 0, said)
  t.match(readFileSync(join(WORKDIR, 'centos_rootfs/etc/os-release'), 'utf8'), 'CentOS Stream')
  t.match(readFileSync(join(WORKDIR, 'clearlinux_rootfs/etc/os-release'), 'utf8'), 'Clear Linux')
  t.equal(readdirSync(join(WORKDIR, 'cache/base')).length, 2, 'each tree was made once')
  t.strictSame(leftovers(WORKDIR), [])
})

t.test('a build that is killed leaves no process, no mount, and nothing after the next one', async (t) => {
  const digest = treeDigest(join(WORKDIR, 'centos_rootfs'))
  const workdir = join(scratch, 'again')
  const settings = { ...SETTINGS.centos, WORKDIR: workdir }
  const log = join(workdir, 'logs/rootfs-centos.log')
  const isAsked = (path: RegExp) => (from: number) => centos.asked.slice(from).some((one) => path.test(one))
  const isSaid = (words: string) => () => existsSync(log) && readFileSync(log, 'utf8').includes(words)
  const moments: readonly [string, (from: number) => boolean][] = [
    ['dnf asks for an index', isAsked(/repomd\.xml$/)],
    ['dnf asks for a list of packages', isAsked(/primary/)],
    ['dnf asks for a package', isAsked(/\.rpm$/)],
    ['dnf installs', isSaid('Running transaction\n')],
    ['scripts have run', isSaid('Verifying')],
  ]
  for (const [moment, isReached] of moments) {
    const from = centos.asked.length
    const child = startStep('rootfs', { ...settings, REFRESH: 'always' })
    const over = ended(child)
    while (!isReached(from) && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 5))
    child.kill('SIGKILL')
    await over
    await new Promise((resolve) => setTimeout(resolve, 300))
    const left = spawnSync('pgrep', ['-f', `${workdir}/`]).status
    t.equal(child.signalCode, 'SIGKILL', `killed when ${moment}`)
    t.equal(left, 1, `no process is left (killed when ${moment})`)
    t.notMatch(readFileSync('/proc/mounts', 'utf8'), workdir)
    t.notOk(existsSync(join(workdir, 'centos_rootfs')))
  }
  const { status, said } = await step('rootfs', settings)
  t.equal(status, 0, said)
  t.equal(treeDigest(join(workdir, 'centos_rootfs')), digest)
  t.strictSame(leftovers(workdir), [])
})

t.test(
  'a full disk is told as that, leaves nothing half-written, and nothing that a larger one stumbles over',
  async (t) => {
    const small = join(scratch, 'small')
    mkdirSync(small)
    const mount = (options: string): void => {
      execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', small])
    }
    mount('size=64k')
    try {
      const workdir = join(small, 'work')
      mkdirSync(workdir)
      cpSync(join(WORKDIR, '.osbuilder-workdir'), join(workdir, '.osbuilder-workdir'))
      const settings = { ...SETTINGS.centos, WORKDIR: workdir }
      // Full while indexes are fetched, while packages are, and while the tree is stored.
      for (const size of ['64k', '24m', '60m']) {
        mount(`remount,size=${size}`)
        const { status, said } = await step('rootfs', settings)
        t.equal(status, 73, `${size}: ${said}`)
        t.match(said, 'no space left', size)
        t.equal(said.match(/ERROR/g)?.length, 1, `${size}: one error`)
        t.notOk(existsSync(join(workdir, 'centos_rootfs')), size)
        t.strictSame(leftovers(workdir), [], size)
      }
      mount('remount,size=600m')
      const built = await step('rootfs', settings)
      t.equal(built.status, 0, built.said)
      t.equal(treeDigest(join(workdir, 'centos_rootfs')), treeDigest(join(WORKDIR, 'centos_rootfs')))
    } finally {
      execFileSync('umount', [small])
    }
  },
)
