// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { resolveIndex } from '../../scripts/apt-index.ts'
import type { IndexRequest } from '../../scripts/apt-index.ts'
import { serve } from '../mirrors/server.ts'

const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
const keyring = join(scratch, 'keyring.gpg')

function gpg(argv: readonly string[], input: string = ''): Buffer {
  return execFileSync('gpg', ['--homedir', scratch, '--batch', '--quiet', '--passphrase', '', ...argv], {
    input,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
}

gpg(['--quick-gen-key', 'Test archive <test@example.invalid>', 'ed25519', 'sign', '0'])
writeFileSync(keyring, gpg(['--export']))

/** Signed indexes as Debian's: its security suite ends earlier for some architectures. */
const INDEXES: Readonly<Record<string, string>> = {
  main: 'Architectures: amd64 ppc64el s390x\n',
  security: 'Architectures: amd64 ppc64el\n',
  plain: '',
}

const mirror = await serve('debian', (path) => {
  const named = INDEXES[/^dists\/(\w+)\/InRelease$/.exec(path)?.[1] ?? '']
  const text = `Date: Fri, 20 Nov 2026 00:12:41 UTC\n${named ?? ''}SHA256:\n`
  return Promise.resolve(named === undefined ? undefined : gpg(['--clearsign'], text))
})
t.teardown(async () => {
  await mirror.close()
  spawnSync('gpgconf', ['--homedir', scratch, '--kill', 'all'])
  rmSync(scratch, { recursive: true, force: true })
})

function request(debianArch: string, suites: IndexRequest['suites']): IndexRequest {
  return {
    suites,
    keyring,
    debianArch,
    cacheDir: join(scratch, 'cache'),
    refresh: 'daily',
    nowMs: Date.now(),
  }
}

const BOTH = [
  { suite: 'main', url: mirror.url },
  { suite: 'security', url: mirror.url, optional: true },
] as const

t.test('a suite that has nothing for the architecture is not named as used', async (t) => {
  for (const [arch, used, skipped] of [
    ['amd64', ['main', 'security'], []],
    ['s390x', ['main'], [{ suite: 'security', url: mirror.url, why: 'it has nothing for s390x' }]],
    // The answer for another architecture is not taken from the cache.
    ['ppc64el', ['main', 'security'], []],
  ] as const) {
    const index = await resolveIndex(request(arch, BOTH))
    t.strictSame(
      index.suites.map(({ suite }) => suite),
      used,
      arch,
    )
    t.strictSame(index.skipped, skipped)
  }
})

t.test('the main suite must have it; one that names no architectures may', async (t) => {
  await t.rejects(resolveIndex(request('arm64', BOTH)), {
    code: 'E_INPUT',
    message: `${mirror.url}/dists/main/InRelease: it has nothing for arm64`,
  })
  const index = await resolveIndex(request('arm64', [{ suite: 'plain', url: mirror.url }]))
  t.equal(index.suites.length, 1)
})
