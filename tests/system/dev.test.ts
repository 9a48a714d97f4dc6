// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process'
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { smallAlpine, startRepository } from '../mirrors/alpine.ts'
import { treeDigest } from './tree-digest.ts'
import { PROJECT, bootCache, makeAsync, step } from './user.ts'

t.setTimeout(10 * 60 * 1000)

const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
const alpine = await startRepository()
await alpine.publish(await smallAlpine())
t.teardown(async () => {
  await alpine.close()
  rmSync(scratch, { recursive: true, force: true })
})

const OVERLAY = join(scratch, 'overlay')
const MARKER = join(OVERLAY, 'etc', 'marker')
mkdirSync(join(OVERLAY, 'etc'), { recursive: true })
writeFileSync(MARKER, 'first\n')

const SETTINGS = {
  DISTRO: 'alpine',
  REPO_URL: alpine.url,
  REPO_KEYRING: alpine.keyring,
  WORKDIR: join(scratch, 'w'),
  // The kernel that the guests of all tests are booted with.
  CACHE_DIR: bootCache(),
  SOURCE_DATE_EPOCH: '1795000000',
  INITRD_COMPRESSION: 'zstd',
  BOOT_TIMEOUT: '300',
  ROOTFS_OVERLAY: OVERLAY,
}

const manifest = (): string => readFileSync(join(SETTINGS.WORKDIR, 'kata-containers-initrd.img.json'), 'utf8')

t.test('what changed is added to the initrd, and the guest has it', async (t) => {
  const dev = { ...SETTINGS, DEV: 'yes' }
  const first = await makeAsync('initrd', dev)
  t.equal(first.status, 0, first.said)
  t.notMatch(manifest(), '"development"')

  writeFileSync(MARKER, 'second\n')
  writeFileSync(join(OVERLAY, 'etc', 'another'), 'new\n')
  const second = await makeAsync('initrd', dev)
  t.equal(second.status, 0, second.said)
  t.match(second.said, /\d+ changed entries added, for trying out only/)
  t.match(manifest(), '"development"')
  const booted = await makeAsync('boot', {
    ...dev,
    BOOT: 'initrd',
    BOOT_COMMAND: 'cat /etc/marker /etc/another',
  })
  t.equal(booted.status, 0, booted.said)
  t.match(booted.stdout, /second\nnew\n/)

  rmSync(MARKER)
  const third = await makeAsync('initrd', dev)
  t.match(third.said, /MiB zstd/, 'a file that went away needs the whole')

  const released = await makeAsync('initrd', SETTINGS)
  t.match(released.said, /MiB zstd/, 'and so does an initrd that is for use')
  t.notMatch(manifest(), '"development"')
})

t.test('whatever the clock, a rebuild gives what a first build does, and touches little', async (t) => {
  const folder = (name: string) => ({ WORKDIR: join(scratch, name), CACHE_DIR: '' })
  const busybox = join(scratch, 'again', 'alpine_rootfs', 'bin', 'busybox')
  let touchedMs = 0
  // Older than all that packages brought, for twice the same; then between, and younger than all.
  for (const [number, clock] of [
    '1000000000',
    '1000000000',
    '1100000000',
    '1795000000',
    '900000000',
  ].entries()) {
    writeFileSync(MARKER, `${String(number)}\n`)
    const settings = { ...SETTINGS, SOURCE_DATE_EPOCH: clock }
    const [again, fresh] = [folder('again'), folder(`fresh-${String(number)}`)]
    for (const where of [again, fresh]) {
      const built = await makeAsync('rootfs', { ...settings, ...where })
      t.equal(built.status, 0, built.said)
    }
    const [digest, wanted] = [again, fresh].map(({ WORKDIR }) => treeDigest(join(WORKDIR, 'alpine_rootfs')))
    t.equal(digest, wanted, `build ${String(number)}, clock ${clock}`)
    const { ctimeMs, mtimeMs } = lstatSync(busybox)
    if (number < 3) t.equal(mtimeMs, Number(clock) * 1000, 'the package is younger than the clock')
    if (number === 1) t.equal(ctimeMs, touchedMs, 'what had its time already was left alone')
    touchedMs = ctimeMs
  }
})

t.test('make dev boots what changed, again and again', async (t) => {
  writeFileSync(MARKER, 'third\n')
  const child = spawn(
    'make',
    ['dev', ...Object.entries(SETTINGS).map(([name, value]) => `${name}=${value}`)],
    {
      cwd: PROJECT,
      env: { PATH: process.env['PATH'], HOME: scratch },
      detached: true,
    },
  )
  let said = ''
  const collect = (chunk: Buffer): void => {
    said += chunk.toString()
  }
  child.stdout.on('data', collect)
  child.stderr.on('data', collect)
  const ended = new Promise((resolve) => child.on('close', resolve))
  /** Ask the console until it answers: it is there a while after the guest began. */
  const guestSays = async (words: string): Promise<boolean> => {
    for (let second = 0; second < 240; second += 1) {
      if (said.includes(words)) return true
      child.stdin.write('cat /etc/marker\n')
      await new Promise((resolve) => setTimeout(resolve, 1000))
    }
    return false
  }
  t.ok(await guestSays('third'), said)
  writeFileSync(MARKER, 'fourth\n')
  t.ok(await guestSays('fourth'), said)
  t.match(said, `${MARKER} changed`)
  t.match(said, 'changed entries added')
  if (child.pid !== undefined) process.kill(-child.pid, 'SIGINT')
  await ended
  t.equal((await step('initrd', SETTINGS)).status, 0, 'nothing holds a lock')
})

t.test('nothing to watch is told', async (t) => {
  const refused = await makeAsync('dev', { ...SETTINGS, ROOTFS_OVERLAY: '' })
  t.not(refused.status, 0)
  t.match(refused.said, /AGENT_SOURCE_BIN, ROOTFS_OVERLAY: give at least one to watch: make/)
})
