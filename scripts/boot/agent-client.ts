// SPDX-License-Identifier: Apache-2.0
import { connect } from 'node:net'
import type { Socket } from 'node:net'

import { BuildError } from '../errors.ts'

export interface Answer {
  /** Exit status of a `run`; 0 for the rest. */
  readonly status: number
  readonly text: string
}

export interface AgentClient {
  /** Ask the guest's agent. Source: rootfs-builder/agent/README.md. */
  readonly ask: (verb: 'ready' | 'version' | 'run' | 'read' | 'poweroff', payload?: string) => Promise<Answer>
  readonly close: () => void
}

/** How often a socket that is not there yet is tried. */
const RETRY_MS = 20

/**
 * Connect to the agent's channel. QEMU makes the socket when it starts, and keeps what is sent until the
 * agent reads it, so the first question may be asked before the guest is up.
 *
 * @param over ends the connection, or the attempts to make it
 */
export async function connectAgent(
  socketPath: string,
  timeoutMs: number,
  over?: AbortSignal,
): Promise<AgentClient> {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    try {
      const socket = await opened(socketPath)
      over?.addEventListener('abort', () => socket.destroy())
      return clientOf(socket)
    } catch (error) {
      if (Date.now() > deadline || over?.aborted === true) throw error
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
  }
}

function opened(socketPath: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath)
    socket.once('connect', () => {
      socket.off('error', reject)
      resolve(socket)
    })
    socket.once('error', reject)
  })
}

function clientOf(socket: Socket): AgentClient {
  let received = Buffer.alloc(0)
  let waiting:
    { readonly resolve: (answer: Answer) => void; readonly reject: (error: unknown) => void } | undefined
  const fail = (error: unknown): void => {
    waiting?.reject(error)
    waiting = undefined
  }
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk])
    let answer: ParsedAnswer | undefined
    try {
      answer = parseAnswer(received)
    } catch (error) {
      fail(error)
      socket.destroy()
      return
    }
    if (answer === undefined || waiting === undefined) return
    received = received.subarray(answer.usedBytes)
    const { resolve } = waiting
    if (answer.isError) fail(new BuildError('E_BOOT', `the agent answers: ${answer.text}`))
    else {
      waiting = undefined
      resolve({ status: answer.status, text: answer.text })
    }
  })
  socket.on('error', fail)
  socket.on('close', () => {
    fail(new BuildError('E_BOOT', 'the guest ended before its agent answered'))
  })
  return {
    ask: (verb, payload = '') =>
      new Promise((resolve, reject) => {
        waiting = { resolve, reject }
        socket.write(`${verb} ${String(Buffer.byteLength(payload))}\n${payload}`)
      }),
    close: () => {
      socket.destroy()
    },
  }
}

interface ParsedAnswer extends Answer {
  readonly isError: boolean
  readonly usedBytes: number
}

/** The first whole answer in what was received, or undefined while it is not whole. */
export function parseAnswer(received: Buffer): ParsedAnswer | undefined {
  const end = received.indexOf('\n')
  if (end < 0) return undefined
  const match = /^(ok|error) (\d+) (\d+)$/.exec(received.toString('latin1', 0, end))
  if (match === null) throw new BuildError('E_BOOT', 'the agent sent something that is no answer')
  const [, kind, status, length] = match
  const usedBytes = end + 1 + Number(length)
  if (received.length < usedBytes) return undefined
  return {
    isError: kind === 'error',
    status: Number(status),
    text: received.toString('utf8', end + 1, usedBytes),
    usedBytes,
  }
}
