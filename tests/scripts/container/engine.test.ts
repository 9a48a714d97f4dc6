// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'

import t from 'tap'

import { containerfile, nodeFor } from '../../../scripts/container/builder-image.ts'
import { builderPlace, placeWords, wantedEngine } from '../../../scripts/container/engine.ts'
import { privileges } from '../../../scripts/container/privileges.ts'
import { targetsOf } from '../../../scripts/container/run-step.ts'
import { hostArch, parseSettings } from '../../../scripts/settings.ts'

const ENGINE = { name: 'docker', argv: ['docker'], env: {}, place: '', arch: hostArch() } as const

t.test('which engine is wanted', async (t) => {
  t.equal(wantedEngine(parseSettings({})), undefined)
  t.equal(wantedEngine(parseSettings({ USE_DOCKER: 'false', USE_PODMAN: '0' })), undefined)
  t.equal(wantedEngine(parseSettings({ USE_PODMAN: '1' })), 'podman')
  t.equal(wantedEngine(parseSettings({ USE_DOCKER: 'true', USE_PODMAN: 'yes' })), 'docker')
  t.throws(() => wantedEngine(parseSettings({ BUILDER: 'tcp://x:1' })), {
    code: 'E_CONFIG',
    hint: /USE_DOCKER=yes or USE_PODMAN=yes/,
  })
})

t.test('BUILDER is a URL or a name, one for each architecture', async (t) => {
  const place = (BUILDER: string, ARCH = 'aarch64') => builderPlace(parseSettings({ BUILDER, ARCH }))
  t.equal(place('tcp://{arch}.example:2375'), 'tcp://aarch64.example:2375')
  t.equal(place('farm-{arch}', 's390x'), 'farm-s390x')
  t.equal(place('{arch}', 'host'), hostArch())
  t.equal(place(''), '')
  for (const bad of ['-x', 'http://x', 'a b', '{host}', 'x;y']) {
    t.throws(() => place(bad), { code: 'E_CONFIG' }, bad)
  }
  t.strictSame(placeWords('docker', 'ssh://me@x'), ['--host', 'ssh://me@x'])
  t.strictSame(placeWords('docker', 'farm'), ['--context', 'farm'])
  t.strictSame(placeWords('podman', 'tcp://x:1'), ['--remote', '--url', 'tcp://x:1'])
  t.strictSame(placeWords('podman', 'farm'), ['--remote', '--connection', 'farm'])
  t.strictSame(placeWords('docker', ''), [])
})

t.test('a builder has the tools of its machine, and its text is the same in every order', async (t) => {
  const settings = parseSettings({ ARCH: 'aarch64' })
  t.ok(targetsOf('rootfs', settings, 'x86_64').includes('foreign-aarch64'))
  t.notOk(targetsOf('rootfs', settings, 'aarch64').includes('foreign-aarch64'), 'which is none there')
  t.notOk(targetsOf('image', settings, 'x86_64').includes('foreign-aarch64'), 'nor to pack one')
  t.ok(targetsOf('kernel', settings, 'x86_64').includes('foreign-aarch64'))
  const manager = (DISTRO: string) =>
    targetsOf('image', parseSettings({ DISTRO }), hostArch()).includes('dnf')
  t.strictSame([manager('centos'), manager('debian')], [true, false], 'one builder for a package manager')
  const text = containerfile('base@sha256:1', ['rootfs', 'initrd'])
  t.equal(text, containerfile('base@sha256:1', ['initrd', 'rootfs']))
  t.match(text, /^FROM base@sha256:1\n/)
  t.match(text, /\n {6}mmdebstrap \\\n/)
  t.notMatch(text, 'bison')
  t.match(containerfile('x', ['kernel']), 'bison')
})

t.test('the Node of a builder must be for its machine', async (t) => {
  const own = nodeFor(ENGINE, { BUILDER_NODE: '' })
  t.equal(own.path, process.execPath)
  t.not(nodeFor(ENGINE, { BUILDER_NODE: process.execPath }).identity, own.identity)
  const arch = hostArch() === 'aarch64' ? 'x86_64' : 'aarch64'
  const there = { ...ENGINE, arch, place: 'tcp://x:1' } as const
  t.throws(() => nodeFor(there, { BUILDER_NODE: '' }), {
    message: /no Node for docker at tcp:\/\/x:1/,
    because: [`the engine's machine is ${arch}`, /is for /],
    hint: /BUILDER_NODE=/,
  })
  const folder = t.testdir({ [arch]: { node: 'text that is no program of any kind' } })
  const wanted = { message: /no Node for docker/, hint: /BUILDER_NODE=/ }
  t.throws(() => nodeFor(there, { BUILDER_NODE: join(folder, '{arch}', 'node') }), wanted)
  t.throws(() => nodeFor(there, { BUILDER_NODE: '/nowhere/node' }), wanted)
})

t.test('nothing is privileged', async (t) => {
  for (const step of ['rootfs', 'image', 'initrd', 'kernel'] as const) {
    for (const name of ['docker', 'podman'] as const) {
      const words = privileges({ ...ENGINE, name, isApart: false }, step)
      t.strictSame(words.slice(0, 2), ['--cap-drop', 'ALL'])
      t.notMatch(words.join(' '), /privileged|--device|seccomp|docker\.sock/)
      t.equal(words.includes('SYS_ADMIN'), step === 'rootfs', `${name} ${step}`)
    }
  }
})
