// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { SETTINGS } from '../../scripts/settings-table.ts'
import { PROJECT, make, step } from './user.ts'

t.setTimeout(5 * 60 * 1000)

t.test('make alone prints every target and every setting, on lines that fit a terminal', (t) => {
  const { status, stdout } = make('help', {})
  t.equal(status, 0)
  const bare = spawnSync('make', [], { cwd: PROJECT, encoding: 'utf8', env: { PATH: process.env['PATH'] } })
  t.equal(bare.stdout, stdout)
  for (const name of Object.keys(SETTINGS)) t.match(stdout, new RegExp(`^  ${name}\\b`, 'm'))
  const makefile = readFileSync(join(PROJECT, 'Makefile'), 'utf8')
  const targets = [...makefile.matchAll(/^\.PHONY: (.*)$/gm)].flatMap((match) => String(match[1]).split(' '))
  for (const target of targets) t.match(stdout, new RegExp(`^  ${target}\\b`, 'm'), target)
  t.strictSame(
    stdout.split('\n').filter((line) => line.length > 80),
    [],
  )
  t.notMatch(stdout, '\u001b', 'no colours in a file')
  t.end()
})

t.test("the README's table of settings is the one of the code", async (t) => {
  const table = (await step('help', {}, ['-m'])).stdout
  t.ok(
    readFileSync(join(PROJECT, 'README.md'), 'utf8').includes(table),
    'node build/scripts/help.js -m makes it',
  )
})

t.test('a setting works the same from the environment and from the command line of make', (t) => {
  const fromLine = make('rootfs', { DISTRO: 'debian', AGENT_INIT: 'maybe' })
  const fromEnvironment = spawnSync('make', ['rootfs'], {
    cwd: PROJECT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], HOME: '/root', DISTRO: 'debian', AGENT_INIT: 'maybe' },
  })
  for (const said of [fromLine.said, fromEnvironment.stderr])
    t.match(said, 'AGENT_INIT=maybe: expected yes or no')
  t.not(fromLine.status, 0)
  t.end()
})

t.test('the default distro is ubuntu, from its own mirror or the one that is set', (t) => {
  t.equal(make('print-DISTRO', {}).stdout.trim(), 'ubuntu')
  const settings = { WORKDIR: mkdtempSync(join(tmpdir(), 'osbuilder-test-')), REPO_URL: 'http://127.0.0.1:9' }
  t.match(make('rootfs', settings).said, 'http://127.0.0.1:9/dists/noble/InRelease: cannot be downloaded')
  rmSync(settings.WORKDIR, { recursive: true })
  t.end()
})

t.test('certificates of the user are for the steps and not for the start of Node', (t) => {
  const workdir = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
  const given = { NODE_EXTRA_CA_CERTS: '/none.pem', WORKDIR: workdir, DISTRO: 'debian' }
  const { status, stderr } = spawnSync('make', ['rootfs'], {
    cwd: PROJECT,
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], HOME: '/root', ...given, REPO_URL: 'https://127.0.0.1:9' },
  })
  t.not(status, 0)
  t.match(stderr, 'NODE_EXTRA_CA_CERTS "/none.pem" cannot be read')
  t.notMatch(stderr, 'Ignoring extra certs', 'as Node says when it reads them itself')
  rmSync(workdir, { recursive: true })
  t.end()
})

t.test("the README's table of distros is the one of the code", (t) => {
  const table = make('list-distros', {}).stdout
  t.ok(readFileSync(join(PROJECT, 'README.md'), 'utf8').includes(table))
  t.end()
})

t.test('small targets answer', (t) => {
  t.match(
    make('list-distros', {}).stdout,
    /^debian +bookworm \(12\) until 2028-06-30, the default\n[^]* +init: systemd agent +arch: x86_64/m,
  )
  t.equal(make('print-DISTRO', { DISTRO: 'debian' }).stdout.trim(), 'debian')
  t.match(make('check-deps', {}).stdout, /DEPS +rootfs +ready/)
  t.end()
})
