// SPDX-License-Identifier: Apache-2.0
import { chmodSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { checkAgentSettings, resolveAgent } from '../../rootfs-builder/agent-source.ts'
import { sha256 } from '../../scripts/digest.ts'
import { hostArch, parseSettings } from '../../scripts/settings.ts'
import type { RawSettings } from '../../scripts/settings.ts'

const problems = (raw: RawSettings): string[] => checkAgentSettings(parseSettings(raw))

t.test('no agent named is no problem, and so is one that is there', async (t) => {
  const file = join(t.testdir({ agent: '' }), 'agent')
  t.strictSame(problems({}), [])
  t.strictSame(problems({ AGENT_SOURCE_BIN: file }), [])
  t.strictSame(problems({ AGENT_REPO: 'https://x/y', AGENT_VERSION: 'v1' }), [])
})

t.test('two origins of one agent are refused by their names', async (t) => {
  const file = join(t.testdir({ agent: '' }), 'agent')
  t.strictSame(problems({ AGENT_SOURCE_BIN: file, AGENT_REPO: 'x' }), [
    'AGENT_SOURCE_BIN and AGENT_REPO: give only one of them',
  ])
})

t.test('a version without repository and a policy without file are refused', async (t) => {
  t.match(problems({ AGENT_VERSION: 'v1', AGENT_POLICY: 'yes' }), [
    /^AGENT_VERSION=v1: needs AGENT_REPO/,
    /^AGENT_POLICY=yes: needs AGENT_POLICY_FILE/,
  ])
})

t.test('every file that is not there is named, and a folder is no file', async (t) => {
  const folder = t.testdir()
  const names = ['AGENT_TARBALL', 'AGENT_POLICY_FILE', 'GUEST_HOOKS_TARBALL', 'PAUSE_IMAGE_TARBALL'] as const
  for (const name of names) t.strictSame(problems({ [name]: folder }), [`${name}=${folder}: no such file`])
  t.strictSame(problems({ KERNEL_MODULES_DIR: '/no/such' }), ['KERNEL_MODULES_DIR=/no/such: no such folder'])
})

t.test('a given file or archive is taken with its digest', async (t) => {
  const folder = t.testdir({ a: 'agent' })
  const file = join(folder, 'a')
  const places = { cacheDir: folder, logFile: join(folder, 'log') }
  const binary = await resolveAgent(parseSettings({ AGENT_SOURCE_BIN: file }), 'x86_64', places)
  t.strictSame(binary, { kind: 'file', file, sha256: sha256('agent') })
  t.match(await resolveAgent(parseSettings({ AGENT_TARBALL: file }), 'x86_64', places), { kind: 'archive' })
})

t.test('an agent that does not compile fails who asks for it, and nobody else', async (t) => {
  const folder = t.testdir({ bin: { 'musl-gcc': '#!/bin/sh\n[ "$1" = --version ] && echo one || exit 1\n' } })
  chmodSync(join(folder, 'bin/musl-gcc'), 0o755)
  const path = process.env['PATH'] ?? ''
  process.env['PATH'] = `${join(folder, 'bin')}:${path}`
  t.teardown(() => {
    process.env['PATH'] = path
  })
  const places = { cacheDir: join(folder, 'cache'), logFile: join(folder, 'log') }
  const agent = await resolveAgent(parseSettings({}), hostArch(), places)
  if (agent.kind !== 'bundled') throw new Error(agent.kind)
  t.equal(agent.compiler, 'musl-gcc: one')
  // It fails while nobody waits for it.
  await new Promise((resolve) => setTimeout(resolve, 200))
  await t.rejects(agent.program, { code: 'E_COMMAND', message: 'musl-gcc failed with status 1' })
  t.strictSame(readdirSync(join(folder, 'cache/agent')), [])
})
