// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { parseDependency } from '../../../../rootfs-builder/bootstrap/apk/dependency.ts'
import { parseIndex } from '../../../../rootfs-builder/bootstrap/apk/index.ts'
import type { ApkPackage } from '../../../../rootfs-builder/bootstrap/apk/index.ts'
import { resolvePackages } from '../../../../rootfs-builder/bootstrap/apk/resolve.ts'
import { BuildError } from '../../../../scripts/errors.ts'

/** Packages as `name version D:… p:… i:… k:…`, one a line. */
function packagesOf(text: string, tag?: string): ApkPackage[] {
  const paragraphs = text
    .trim()
    .split('\n')
    .map((line) => {
      const [name = '', version = '', ...rest] = line.trim().split(/\s+/)
      const fields = rest.join(' ').split(/ (?=[Dpik]:)/)
      return [`P:${name}`, `V:${version}`, ...fields.filter((field) => field !== '')].join('\n')
    })
  return parseIndex(paragraphs.join('\n\n'), { url: 'u', ...(tag === undefined ? {} : { tag }) })
}

function resolved(world: string, packages: readonly ApkPackage[]): string[] {
  const dependencies = world.split(' ').map(parseDependency)
  return resolvePackages(dependencies, packages).map(({ name, version }) => `${name}-${version}`)
}

function refusal(world: string, packages: readonly ApkPackage[]): string {
  try {
    resolved(world, packages)
  } catch (error) {
    if (error instanceof BuildError) return [error.message, ...error.because, error.hint].join('\n')
    throw error
  }
  return 'nothing was refused'
}

t.test('dependencies come before those who need them, by name, file, command and library', (t) => {
  const packages = packagesOf(`
    app 1-r0 D:lib so:libx.so.1 cmd:tool /bin/sh
    lib 2-r0
    libx 1.2-r0 p:so:libx.so.1=1.2
    tool 1-r0 p:cmd:tool=1-r0
    busybox 1-r0
    busybox-binsh 1-r0 D:busybox p:/bin/sh k:100
    dash-binsh 1-r0 p:/bin/sh k:60
  `)
  const order = resolved('app', packages)
  t.strictSame([...order].sort(), [
    'app-1-r0',
    'busybox-1-r0',
    'busybox-binsh-1-r0',
    'lib-2-r0',
    'libx-1.2-r0',
    'tool-1-r0',
  ])
  t.equal(order.at(-1), 'app-1-r0')
  t.ok(order.indexOf('busybox-1-r0') < order.indexOf('busybox-binsh-1-r0'))
  t.end()
})

t.test('the newest version that all allow is taken', (t) => {
  const packages = packagesOf(`
    a 1.0-r0
    a 1.10-r0
    a 1.9-r0
    b 1-r0 D:a<1.10
    c 1-r0 D:a~1.1
  `)
  t.strictSame(resolved('a', packages), ['a-1.10-r0'])
  t.ok(resolved('b a', packages).includes('a-1.9-r0'))
  t.ok(resolved('a b', packages).includes('a-1.9-r0'), 'a choice is taken back when a later wish needs it')
  t.match(refusal('a=2', packages), /no package is a=2\n.*the list of packages -> a=2\nthere is: a-1.0-r0/)
  t.match(refusal('b c', packages), /no package is a~1.1|two versions/)
  t.end()
})

t.test('a name that several provide without version needs a priority or a word of the user', (t) => {
  const packages = packagesOf(`
    exim 1-r0 p:mta
    postfix 1-r0 p:mta
    app 1-r0 D:mta
  `)
  t.match(refusal('app', packages), /several packages provide mta[^]*exim, postfix[^]*EXTRA_PKGS=exim/)
  for (const world of ['postfix app', 'app postfix']) {
    t.strictSame(resolved(world, packages).sort(), ['app-1-r0', 'postfix-1-r0'], world)
  }
  t.end()
})

t.test('a conflict names who has it and who asked', (t) => {
  const packages = packagesOf(`
    openrc 1-r0 D:!systemd
    app 1-r0 D:systemd
    systemd 1-r0
    one 1-r0 p:thing=1
    two 1-r0 p:thing=2
  `)
  for (const world of ['openrc app', 'app openrc']) {
    t.match(refusal(world, packages), /systemd-1-r0 may not be installed: openrc-1-r0 has !systemd/)
  }
  t.match(refusal('openrc app', packages), /the list of packages -> app-1-r0 -> systemd/)
  t.match(refusal('one two', packages), /two and one both provide thing/)
  t.match(refusal('app !systemd', packages), /systemd-1-r0 may not be installed/)
  t.end()
})

t.test('install_if adds what goes with what is there', (t) => {
  const packages = packagesOf(`
    app 1-r0
    app-doc 1-r0 i:app=1-r0 docs
    app-doc-extra 1-r0 i:app-doc D:lib
    lib 1-r0
    docs 1-r0
    never 1-r0 i:app nothing
  `)
  t.strictSame(resolved('app', packages), ['app-1-r0'])
  t.strictSame(resolved('app docs', packages).sort(), [
    'app-1-r0',
    'app-doc-1-r0',
    'app-doc-extra-1-r0',
    'docs-1-r0',
    'lib-1-r0',
  ])
  t.strictSame(resolved('app docs !app-doc', packages).sort(), ['app-1-r0', 'docs-1-r0'])
  t.end()
})

t.test('a tagged repository serves only what is asked of it', (t) => {
  const packages = [...packagesOf('a 1-r0\nb 1-r0 D:a'), ...packagesOf('a 2-r0', 'edge')]
  t.strictSame(resolved('b', packages), ['a-1-r0', 'b-1-r0'])
  t.ok(resolved('a@edge b', packages).includes('a-2-r0'))
  t.end()
})

t.test('a name of several packages waits for what else is asked for, and needs no second one', (t) => {
  const packages = packagesOf(`
    kernel 1-r0 D:firmware-any
    firmware 1-r0 p:firmware-any k:9
    firmware-none 1-r0 p:firmware-any
  `)
  t.strictSame(resolved('kernel firmware-none', packages).sort(), ['firmware-none-1-r0', 'kernel-1-r0'])
  t.ok(resolved('kernel', packages).includes('firmware-1-r0'))
  t.end()
})

t.test('what install_if adds may need another choice, and is left out where it fits none', (t) => {
  const packages = packagesOf(`
    desktop 1-r0 D:polkit
    openrc 1-r0
    polkit 1-r0
    polkit-elogind 1-r0 p:polkit=1
    desktop-openrc 1-r0 i:desktop=1-r0 openrc D:polkit-elogind
    desktop-broken 1-r0 i:desktop D:nowhere
  `)
  t.strictSame(resolved('desktop', packages).sort(), ['desktop-1-r0', 'polkit-1-r0'])
  t.strictSame(resolved('desktop openrc', packages).sort(), [
    'desktop-1-r0',
    'desktop-openrc-1-r0',
    'openrc-1-r0',
    'polkit-elogind-1-r0',
  ])
  t.end()
})

t.test('what a tagged package needs may come from its repository, which all else leaves alone', (t) => {
  const packages = [
    ...packagesOf('app 1-r0 D:lib\nlib 1-r0\nother 1-r0 D:lib'),
    ...packagesOf('app 2-r0 D:lib>=2\nlib 2-r0\napp-doc 2-r0 i:app=2-r0\nother-doc 1-r0 i:other', 'edge'),
  ]
  t.strictSame(resolved('app@edge other', packages).sort(), [
    'app-2-r0',
    'app-doc-2-r0',
    'lib-2-r0',
    'other-1-r0',
  ])
  t.strictSame(resolved('other', packages).sort(), ['lib-1-r0', 'other-1-r0'])
  t.match(refusal('lib>1.5', packages), /there is: lib-1-r0, lib-2-r0 of @edge\nmake EXTRA_PKGS=lib@edge/)
  const pinned = [...packagesOf('a 1-r0 D:b\nb 1-r0'), ...packagesOf('b 2-r0', 'edge')]
  t.strictSame(resolved('a b@edge', pinned), ['b-2-r0', 'a-1-r0'], 'a tag counts for whoever needs the name')
  t.end()
})

t.test('a world of hundreds of packages is resolved in a moment, and a hopeless one given up', (t) => {
  const many = Array.from(
    { length: 800 },
    (_, n) => `p${String(n)} 1-r0 D:p${String(n + 1)} so:x${String(n % 50)}`,
  )
  const libraries = Array.from({ length: 50 }, (_, n) => `x${String(n)} 1-r0 p:so:x${String(n)}=1`)
  const packages = packagesOf([...many, ...libraries, 'p800 1-r0'].join('\n'))
  const startMs = Date.now()
  t.equal(resolved('p0', packages).length, 851)
  t.ok(Date.now() - startMs < 2000, `${String(Date.now() - startMs)} ms`)
  const two = Array.from({ length: 20 }, (_, n) => [
    `q${String(n)} 1-r0 D:z<1`,
    `q${String(n)} 2-r0 D:z<1`,
  ]).flat()
  const hopeless = packagesOf(
    [
      ...two,
      ...Array.from({ length: 20 }, (_, n) => `u${String(n)} 1-r0\nu${String(n)} 2-r0`),
      'z 0.5-r0',
      'last 1-r0 D:z>1',
      'z 2-r0',
    ].join('\n'),
  )
  const world = [...Array.from({ length: 20 }, (_, n) => `u${String(n)}`), 'q0', 'last'].join(' ')
  t.match(refusal(world, hopeless), /no package is z|z: two versions|too many ways/)
  t.ok(Date.now() - startMs < 10_000, `${String(Date.now() - startMs)} ms`)
  t.end()
})

t.test('a package that is not there is told with near names', (t) => {
  const packages = packagesOf('iptables 1-r0\niptables-doc 1-r0\ncurl 1-r0\napp 1-r0 D:iptabels')
  t.match(refusal('iptabels', packages), /no package iptabels[^]*near names: iptables/)
  t.match(refusal('app', packages), /the list of packages -> app-1-r0 -> iptabels/)
  t.end()
})

t.test('packages that need each other are both installed', (t) => {
  const packages = packagesOf('a 1-r0 D:b\nb 1-r0 D:a')
  t.strictSame(resolved('a', packages).sort(), ['a-1-r0', 'b-1-r0'])
  t.end()
})
