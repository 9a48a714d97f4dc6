// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { fileEntry, linkEntry } from '../../scripts/additions.ts'
import { checkRootfs, findEntry, rootfsProblems, systemdOf } from '../../scripts/rootfs-check.ts'
import type { GuestRules } from '../../scripts/rootfs-check.ts'
import type { TreeEntry } from '../../scripts/tree.ts'

const SYSTEMD_GUEST: GuestRules = { agentInit: false, agentBin: 'kata-agent', arch: 'x86_64' }
const AGENT_GUEST: GuestRules = { ...SYSTEMD_GUEST, agentInit: true }

function elf(machine: number): Buffer {
  const bytes = Buffer.alloc(64)
  bytes.write('\x7fELF\x02\x01', 'latin1')
  bytes.writeUInt16LE(machine, 18)
  return bytes
}

const program = (path: string, machine: number = 62): TreeEntry => fileEntry(path, elf(machine), 0, 0o755)
const folder = (path: string): TreeEntry => ({
  ...fileEntry(path, Buffer.alloc(0), 0),
  type: 'directory',
  mode: 0o40755,
})
const unit = (name: string): TreeEntry =>
  fileEntry(`usr/lib/systemd/system/${name}`, Buffer.from('[Unit]'), 0)

/** A merged-usr guest with systemd, as Debian makes it. */
const GOOD: readonly TreeEntry[] = [
  ...['', 'usr', 'usr/lib', 'usr/sbin', 'usr/bin', 'proc', 'sys', 'dev', 'run'].map(folder),
  linkEntry('lib', 'usr/lib', 0),
  linkEntry('sbin', 'usr/sbin', 0),
  linkEntry('usr/sbin/init', '../lib/systemd/systemd', 0),
  program('usr/lib/systemd/systemd'),
  program('usr/bin/kata-agent'),
  unit('kata-agent.service'),
  unit('kata-containers.target'),
]

const without = (...paths: readonly string[]): TreeEntry[] => GOOD.filter(({ path }) => !paths.includes(path))

t.test('a guest with systemd, links and all, has no problem', async (t) => {
  t.strictSame(rootfsProblems(GOOD, SYSTEMD_GUEST), [])
  t.doesNotThrow(() => {
    checkRootfs(GOOD, SYSTEMD_GUEST, 'root')
  })
})

t.test('systemd is found where /lib is a folder of its own too', (t) => {
  t.equal(systemdOf(GOOD), '/usr/lib/systemd/systemd')
  const split = [
    folder('lib'),
    program('lib/systemd/systemd'),
    linkEntry('sbin/init', '/lib/systemd/systemd', 0),
  ]
  t.equal(systemdOf(split), '/lib/systemd/systemd')
  t.end()
})

t.test('a guest whose init is the agent needs neither systemd nor units', async (t) => {
  const tree = [...['proc', 'sys', 'dev', 'run', 'sbin'].map(folder), program('sbin/init')]
  t.strictSame(rootfsProblems(tree, AGENT_GUEST), [])
})

t.test('systemd as init is refused where the agent is to be init', async (t) => {
  t.strictSame(rootfsProblems(GOOD, AGENT_GUEST), [
    '/sbin/init: is systemd, but AGENT_INIT=yes wants the agent there',
  ])
})

t.test('each thing that is missing is one problem', async (t) => {
  const cases: readonly [TreeEntry[], RegExp][] = [
    [without('usr/sbin/init'), /^\/sbin\/init: no such program$/],
    [without('usr/bin/kata-agent'), /^\/usr\/bin\/kata-agent: no such program; AGENT_BIN/],
    [without('usr/lib/systemd/system/kata-agent.service'), /^kata-agent\.service: no such unit/],
    [without('usr/lib/systemd/system/kata-containers.target'), /^kata-containers\.target: no such unit/],
    ...['proc', 'sys', 'dev', 'run'].map((name): [TreeEntry[], RegExp] => [
      without(name),
      new RegExp(`^/${name}: no such folder`),
    ]),
  ]
  for (const [tree, problem] of cases) {
    const problems = rootfsProblems(tree, SYSTEMD_GUEST)
    t.equal(problems.length, 1, problems.join('; '))
    t.match(problems[0], problem)
  }
  const noSystemd = [...without('usr/lib/systemd/systemd', 'usr/sbin/init'), program('usr/sbin/init')]
  t.match(rootfsProblems(noSystemd, SYSTEMD_GUEST), [/^\/usr\/lib\/systemd\/systemd: is missing/])
})

t.test('an agent that is not executable is no program', async (t) => {
  const tree = [...without('usr/bin/kata-agent'), fileEntry('usr/bin/kata-agent', elf(62), 0, 0o644)]
  t.match(rootfsProblems(tree, SYSTEMD_GUEST), [/no such program/])
})

t.test('a program of another machine is named', async (t) => {
  const tree = [...without('usr/bin/kata-agent'), program('usr/bin/kata-agent', 183)]
  t.strictSame(rootfsProblems(tree, SYSTEMD_GUEST), [
    '/usr/bin/kata-agent: is a program for aarch64, not for x86_64',
  ])
  const strange = [...without('usr/lib/systemd/systemd'), program('usr/lib/systemd/systemd', 243)]
  t.strictSame(rootfsProblems(strange, SYSTEMD_GUEST), [
    '/sbin/init: is a program for another machine, not for x86_64',
  ])
})

t.test('an agent that is a script is for every machine', async (t) => {
  const script = fileEntry('usr/bin/kata-agent', Buffer.from('#!/bin/sh\nexec sleep infinity\n'), 0, 0o755)
  t.strictSame(rootfsProblems([...without('usr/bin/kata-agent'), script], SYSTEMD_GUEST), [])
})

t.test('all problems of an empty tree are told at once, with what to try', async (t) => {
  t.throws(
    () => {
      checkRootfs([folder('')], SYSTEMD_GUEST, '/my/root')
    },
    {
      code: 'E_INPUT',
      message: '/my/root: this rootfs would not come up',
      hint: /AGENT_INIT \(no\).*SKIP_ROOTFS_CHECK=yes/,
    },
  )
  t.equal(rootfsProblems([folder('')], SYSTEMD_GUEST).length, 9)
})

t.test('links are followed as the guest would, and a loop leads nowhere', async (t) => {
  const tree = new Map(
    [
      ...GOOD,
      linkEntry('abs', '/lib/systemd', 0),
      linkEntry('up', '../../../usr/bin', 0),
      linkEntry('l', 'l', 0),
    ].map((entry) => [entry.path, entry]),
  )
  t.equal(findEntry(tree, '/abs/./systemd')?.path, 'usr/lib/systemd/systemd')
  t.equal(findEntry(tree, 'up/kata-agent')?.path, 'usr/bin/kata-agent')
  t.equal(findEntry(tree, 'sbin/../lib/systemd/systemd')?.path, 'usr/lib/systemd/systemd')
  t.equal(findEntry(tree, 'l/x'), undefined)
  t.equal(findEntry(tree, 'nothing'), undefined)
})
