// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, lstatSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

import { smallAlpine, startRepository } from '../mirrors/alpine.ts'
import {
  BASE,
  baseTar,
  builderTar,
  digestsOf,
  endOf,
  halfMade,
  podmanStorage,
  removeScratch,
  startDockerd,
} from './engines.ts'
import { NORMAL_USER, asNormalUserAsync, makeAsync } from './user.ts'

t.setTimeout(20 * 60 * 1000)

const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
execFileSync('chmod', ['755', scratch])
const alpine = await startRepository()
execFileSync('chmod', ['-R', 'go+rX', join(alpine.keyring, '..')])
await alpine.publish(await smallAlpine())
// The user is let in by a group, as in the group docker; the engine's root is not the user's.
const docker = await startDockerd(join(scratch, 'docker'), { flags: ['--group', NORMAL_USER] })
docker.ask('import', baseTar(), BASE)
t.teardown(async () => {
  await endOf(docker.child)
  await alpine.close()
  removeScratch(scratch)
})

const SETTINGS = {
  ...{ DISTRO: 'alpine', REPO_URL: alpine.url, REPO_KEYRING: alpine.keyring },
  ...{ SOURCE_DATE_EPOCH: '1795000000', INITRD_COMPRESSION: 'zstd', BUILDER_BASE: BASE },
}
const rows: string[][] = []

t.test('by root, on the host', async (t) => {
  const WORKDIR = join(scratch, 'root')
  const { status, said } = await makeAsync('all', { ...SETTINGS, WORKDIR })
  t.equal(status, 0, said)
  rows.push(['root', ...digestsOf(WORKDIR, 'alpine')])
})

t.test("by a user with root's docker: the same bytes, and they are the user's", async (t) => {
  await buildAsUser(t, 'docker', { USE_DOCKER: 'yes', DOCKER_HOST: docker.host })
  t.equal(docker.ask('ps', '--all', '--quiet'), '', 'no container is left')
})

t.test("by a user with podman of his own: the same bytes, and they are the user's", async (t) => {
  const home = join(scratch, 'podman')
  // Podman's sockets are below it, and with a long path podman ends only when it is written to.
  const runtime = mkdtempSync(join(tmpdir(), 'o-'))
  t.teardown(() => {
    rmSync(runtime, { recursive: true, force: true })
  })
  mkdirSync(home)
  execFileSync('chown', [NORMAL_USER, runtime])
  const env = {
    CONTAINERS_STORAGE_CONF: podmanStorage(join(home, 'containers')),
    XDG_RUNTIME_DIR: runtime,
    HOME: home,
  }
  execFileSync('chown', ['-R', NORMAL_USER, home])
  const ids = ['--reuid', NORMAL_USER, '--regid', NORMAL_USER, '--init-groups']
  const podman = (...words: string[]): string => {
    const argv = [...ids, 'podman', '--runtime', 'runc', ...words]
    return execFileSync('setpriv', argv, { encoding: 'utf8', cwd: '/', env: { ...process.env, ...env } })
  }
  podman('load', '--quiet', '--input', builderTar(docker))
  await buildAsUser(t, 'podman', { USE_PODMAN: 'yes', DOCKER_RUNTIME: 'runc', ...env })
  t.equal(podman('ps', '--all', '--quiet').trim(), '', 'no container is left')
  podman('unshare', 'rm', '-rf', join(home, 'containers'))
  // What podman leaves to keep the user's namespace.
  process.kill(Number(readFileSync(join(runtime, 'libpod', 'tmp', 'pause.pid'), 'utf8')))
})

/** Build all as a user, compare it with what root made, see whose it is, and clean up as that user. */
async function buildAsUser(t: Test, name: string, place: Readonly<Record<string, string>>): Promise<void> {
  const home = join(scratch, name)
  mkdirSync(home, { recursive: true })
  const WORKDIR = join(home, 'work')
  const run = asNormalUserAsync(home, { ...SETTINGS, ...place, WORKDIR })
  for (const step of ['rootfs', 'image', 'initrd'] as const) {
    const { status, said } = await run(step)
    t.equal(status, 0, `${step}: ${said}`)
  }
  const uid = Number(execFileSync('id', ['-u', NORMAL_USER], { encoding: 'utf8' }))
  const first = Number(
    new RegExp(`^${NORMAL_USER}:(\\d+):`, 'm').exec(readFileSync('/etc/subuid', 'utf8'))?.[1],
  )
  rows.push([name, ...digestsOf(WORKDIR, 'alpine', (id) => (id === uid ? 0 : id - first + 1))])
  t.comment(
    rows
      .at(-1)
      ?.map((cell) => cell.padEnd(14))
      .join(''),
  )
  t.strictSame(rows.at(-1)?.slice(1), rows[0]?.slice(1))
  const foreign = readdirSync(WORKDIR, { recursive: true, encoding: 'utf8' }).filter((entry) => {
    const owner = lstatSync(join(WORKDIR, entry)).uid
    const isInRange = owner >= first && owner < first + 65536
    return owner !== uid && !(isInRange && entry.startsWith('alpine_rootfs/'))
  })
  t.strictSame(foreign, [], "all is the user's")
  t.strictSame(halfMade(WORKDIR), [], 'nothing half-made is left')
  const again = await run('image')
  t.equal(again.status, 0)
  t.match(again.said, 'unchanged')
  const { status, said } = await run('clean')
  t.equal(status, 0, said)
  t.notOk(existsSync(join(WORKDIR, 'alpine_rootfs')))
}
