// SPDX-License-Identifier: Apache-2.0
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { SecureContext } from 'node:tls'

import type { Dispatcher } from 'undici'

import { BuildError, errnoOf } from './errors.ts'
import { extraCertificates } from './settings.ts'

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
  const { request } = await import('./http-client.ts')
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
      if (error instanceof BuildError) throw error
      if (wait === undefined) throw unreachable(url, error)
    }
    await new Promise((resolve) => setTimeout(resolve, wait))
  }
}

let agent: Promise<Dispatcher> | undefined

/**
 * What requests go through: proxies of the environment, redirections, an end to silence, certificates of the
 * user's own.
 *
 * All of a process share it, and so its connections: a name server that is asked anew for each of a hundred
 * files may leave some questions without an answer, and each of those costs five seconds. Connections that
 * nobody uses do not keep the process from ending. A request throws BuildError E_CONFIG when it needs the
 * certificates and they cannot be read.
 */
export function sharedAgent(): Promise<Dispatcher> {
  agent ??= (async () => {
    const { EnvHttpProxyAgent, interceptors } = await import('./http-client.ts')
    const patience = { headersTimeout: SILENCE_MS, bodyTimeout: SILENCE_MS }
    const plain = new EnvHttpProxyAgent(patience)
    const redirect = interceptors.redirect({ maxRedirections: 5 })
    const file = extraCertificates()
    if (file === undefined) return plain.compose(redirect)

    const tls = await import('node:tls')
    let secure: Dispatcher | undefined
    const secureAgent = (): Dispatcher => {
      const known = { secureContext: trusting(file, tls) }
      return new EnvHttpProxyAgent({ ...patience, connect: known, requestTls: known, proxyTls: known })
    }
    // A redirection may lead from http to https: every request is looked at, not the first address.
    const choose: Dispatcher.DispatcherComposeInterceptor = (dispatch) => (options, handler) =>
      String(options.origin).startsWith('https:')
        ? (secure ??= secureAgent()).dispatch(options, handler)
        : dispatch(options, handler)
    return plain.compose(choose, redirect)
  })()
  return agent
}

/** A context that trusts what Node trusts and the certificates of a file, as NODE_EXTRA_CA_CERTS means it. */
function trusting(file: string, tls: typeof import('node:tls')): SecureContext {
  try {
    const text = readFileSync(file, 'utf8')
    // A context takes any text; this refuses what is no certificate.
    new X509Certificate(text)
    return tls.createSecureContext({ ca: [...tls.rootCertificates, text] })
  } catch (error) {
    throw new BuildError('E_CONFIG', `NODE_EXTRA_CA_CERTS ${JSON.stringify(file)} cannot be read`, {
      because: [error instanceof Error ? error.message : String(error)],
      hint: 'name a file of certificates in PEM form, or unset NODE_EXTRA_CA_CERTS',
      cause: error,
    })
  }
}

/** The error for a server that cannot be reached or keeps failing. */
export function unreachable(url: string, error: unknown): BuildError {
  const why = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const reason = why instanceof Error ? why.message : ''
  const untrusted = /CERT|ISSUER|VERIFY/.test(errnoOf(why) ?? '')
  return new BuildError('E_NETWORK', `${url}: cannot be downloaded`, {
    because: [`${reason || 'the connection failed'} (${String(RETRY_WAITS_MS.length + 1)} tries)`],
    hint: untrusted
      ? 'NODE_EXTRA_CA_CERTS=FILE names the certificate of an authority of your own'
      : 'check the network, REPO_URL and http_proxy, then run the same command again',
    cause: error,
  })
}
