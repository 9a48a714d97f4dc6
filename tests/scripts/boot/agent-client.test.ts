// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

import { connectAgent, parseAnswer } from '../../../scripts/boot/agent-client.ts'
import { moduleUrl } from '../child.ts'

/** An agent on a socket of this machine. */
async function fakeAgent(t: Test, answer: (question: string, socket: Socket) => void, waitMs: number = 0) {
  const folder = mkdtempSync(join(tmpdir(), 'osbuilder-agent-'))
  const path = join(folder, 's')
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket)
    socket.on('data', (chunk) => {
      answer(chunk.toString(), socket)
    })
    socket.on('error', () => undefined)
  })
  const listening = once(server, 'listening')
  setTimeout(() => server.listen(path), waitMs)
  if (waitMs === 0) await listening
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
    rmSync(folder, { recursive: true, force: true })
  })
  return path
}

t.test('an answer is read when it is whole, and only its own bytes', async (t) => {
  const whole = Buffer.from('ok 3 5\nhéllo 1 0\n')
  for (let length = 0; length < 12; length += 1) t.equal(parseAnswer(whole.subarray(0, length)), undefined)
  t.strictSame(parseAnswer(whole), { isError: false, status: 3, text: 'héll', usedBytes: 12 })
  t.strictSame(parseAnswer(Buffer.from('error 0 0\n')), { isError: true, status: 0, text: '', usedBytes: 10 })
})

t.test('what is no answer is an error of the boot', async (t) => {
  for (const text of ['hello\n', 'ok 1\n', 'ok -1 0\n', '\n']) {
    t.throws(() => parseAnswer(Buffer.from(text)), { code: 'E_BOOT' })
  }
})

t.test('a question has its verb, length in bytes and payload, and gets its answer', async (t) => {
  const asked: string[] = []
  const path = await fakeAgent(t, (question, socket) => {
    asked.push(question)
    // In two parts, the cut within a character.
    socket.write(Buffer.from('ok 7 3\né').subarray(0, 8))
    setTimeout(() => socket.write(Buffer.concat([Buffer.from('é').subarray(1), Buffer.from('x')])), 10)
  })
  const agent = await connectAgent(path, 1000)
  t.strictSame(await agent.ask('ready'), { status: 7, text: 'éx' })
  t.strictSame(await agent.ask('read', '/é'), { status: 7, text: 'éx' })
  t.strictSame(asked, ['ready 0\n', 'read 3\n/é'])
  agent.close()
})

t.test('a socket that is made late is waited for, one that never comes is an error', async (t) => {
  const path = await fakeAgent(t, (_, socket) => socket.write('ok 0 0\n'), 100)
  const agent = await connectAgent(path, 2000)
  t.strictSame(await agent.ask('ready'), { status: 0, text: '' })
  agent.close()
  await t.rejects(connectAgent(`${path}-never`, 50), { code: 'ENOENT' })
})

t.test('an answer of failure and a guest that ends are errors of the boot', async (t) => {
  const path = await fakeAgent(t, (question, socket) => {
    if (question.startsWith('read ')) socket.write('error 2 7\nno file')
    else socket.destroy()
  })
  const agent = await connectAgent(path, 1000)
  await t.rejects(agent.ask('read', '/x'), { code: 'E_BOOT', message: 'the agent answers: no file' })
  await t.rejects(agent.ask('ready'), { code: 'E_BOOT', message: /ended before its agent answered/ })
})

t.test('a guest that sends something else fails the question, and not the process', async (t) => {
  const path = await fakeAgent(t, (_, socket) => socket.write('garbage\n'))
  const script = `
    import { connectAgent } from '${moduleUrl('scripts/boot/agent-client.js')}'
    const agent = await connectAgent('${path}', 1000)
    await agent.ask('ready').catch((error) => console.log(error.code))
    agent.close()`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  await once(child, 'close')
  t.equal(said, 'E_BOOT\n')
})
