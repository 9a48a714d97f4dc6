// SPDX-License-Identifier: Apache-2.0
import type { Dispatcher } from 'undici'

import { BuildError } from './errors.ts'

/** Waits before the second, third and fourth try. Unit: ms. */
export const RETRY_WAITS_MS = [300, 1000, 3000]

/** A server that says nothing for this long is given up. */
const SILENCE_MS = 30_000

/** Answers that say there is no such file; some servers hide that behind 403. */
const ABSENT = new Set([403, 404, 410])

export type Download =
  | { readonly found: true; readonly content: Buffer }
  /** The server answered that it has no such file. */
  | { readonly found: false; readonly status: number }

/**
 * Fetch a small file into memory, trying again when the connection breaks.
 *
 * Proxies come from the environment (http_proxy, https_proxy, no_proxy).
 *
 * @throws BuildError E_NETWORK when the server cannot be reached or keeps failing
 */
export async function fetchSmall(url: string): Promise<Download> {
  const { request } = await import('undici')
  const dispatcher = await sharedAgent()
  for (let attempt = 0; ; attempt += 1) {
    const wait = RETRY_WAITS_MS[attempt]
    try {
      const answer = await request(url, { dispatcher })
      const content = Buffer.from(await answer.body.arrayBuffer())
      if (answer.statusCode === 200) return { found: true, content }
      if (ABSENT.has(answer.statusCode)) return { found: false, status: answer.statusCode }
      if (wait === undefined) throw new Error(`the server answers with status ${String(answer.statusCode)}`)
    } catch (error) {
      if (wait === undefined) throw unreachable(url, error)
    }
    await new Promise((resolve) => setTimeout(resolve, wait))
  }
}

let agent: Promise<Dispatcher> | undefined

/**
 * What requests go through: proxies of the environment, redirections, an end to silence.
 *
 * All of a process share it, and so its connections: a name server that is asked anew for each of a hundred
 * files may leave some questions without an answer, and each of those costs five seconds. Connections that
 * nobody uses do not keep the process from ending.
 */
export function sharedAgent(): Promise<Dispatcher> {
  agent ??= (async () => {
    const { EnvHttpProxyAgent, interceptors } = await import('undici')
    return new EnvHttpProxyAgent({ headersTimeout: SILENCE_MS, bodyTimeout: SILENCE_MS }).compose(
      interceptors.redirect({ maxRedirections: 5 }),
    )
  })()
  return agent
}

/** The error for a server that cannot be reached or keeps failing. */
export function unreachable(url: string, error: unknown): BuildError {
  const reason =
    error instanceof Error ? (error.cause instanceof Error ? error.cause.message : error.message) : ''
  return new BuildError('E_NETWORK', `${url}: cannot be downloaded`, {
    because: [`${reason || 'the connection failed'} (${String(RETRY_WAITS_MS.length + 1)} tries)`],
    hint: 'check the network, REPO_URL and http_proxy, then run the same command again',
    cause: error,
  })
}
