// SPDX-License-Identifier: Apache-2.0
import { createWriteStream, existsSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { pipeline } from 'node:stream/promises'

import { sha256File } from './digest.ts'
import { RETRY_WAITS_MS, sharedAgent, unreachable } from './download.ts'
import { BuildError, errnoOf } from './errors.ts'

export interface FileRequest {
  readonly url: string
  /** Gets the file once it is whole and verified. */
  readonly target: string
  /** sha256 it must have, in hex. */
  readonly digest: string
  /** Where the digest comes from, for messages. */
  readonly digestOrigin: string
  /** What the user looks at when the digest is another one. */
  readonly hint: string
}

/**
 * Have a large file: kept from before, or downloaded, going on where an earlier attempt of this or another process ended.
 *
 * It lies in `<target>.partial` until its digest is the asked one; call while holding a lock.
 *
 * @throws BuildError E_NETWORK when the server cannot be reached or has no such file, E_DIGEST when
 *   what it serves is another file
 */
export async function fetchFile(request: FileRequest): Promise<void> {
  const { url, target, digest } = request
  if (existsSync(target) && sha256File(target) === digest) return
  const partial = `${target}.partial`
  mkdirSync(dirname(target), { recursive: true })
  const resumed = existsSync(partial)
  await fetchRest(url, partial)
  let found = sha256File(partial)
  if (found !== digest && resumed) {
    // What was left behind may be of another file; a whole new one decides.
    rmSync(partial, { force: true })
    await fetchRest(url, partial)
    found = sha256File(partial)
  }
  if (found !== digest) {
    rmSync(partial, { force: true })
    throw new BuildError('E_DIGEST', `${basename(target)}: is not the expected file`, {
      because: [
        `sha256 expected: ${digest}   (${request.digestOrigin})`,
        `sha256 received: ${found}   (${url})`,
      ],
      hint: request.hint,
    })
  }
  renameSync(partial, target)
}

async function fetchRest(url: string, partial: string): Promise<void> {
  const { request } = await import('./http-client.ts')
  const dispatcher = await sharedAgent()
  for (let attempt = 0; ; attempt += 1) {
    const wait = RETRY_WAITS_MS[attempt]
    const have = existsSync(partial) ? statSync(partial).size : 0
    try {
      const headers = have === 0 ? {} : { range: `bytes=${String(have)}-` }
      const answer = await request(url, { dispatcher, headers })
      const status = answer.statusCode
      if (status === 200 || status === 206) {
        // A server that does not know ranges sends all of it again.
        await pipeline(answer.body, createWriteStream(partial, { flags: status === 206 ? 'a' : 'w' }))
        return
      }
      await answer.body.dump()
      // Nothing is left to send: the file was whole already.
      if (status === 416 && have > 0) return
      if (status >= 400 && status < 500) throw absent(url, status)
      throw new Error(`the server answers with status ${String(status)}`)
    } catch (error) {
      if (error instanceof BuildError || errnoOf(error) === 'ENOSPC') throw error
      if (wait === undefined) throw unreachable(url, error)
    }
    await new Promise((resolve) => setTimeout(resolve, wait))
  }
}

function absent(url: string, status: number): BuildError {
  return new BuildError('E_NETWORK', `${url}: the server has no such file (status ${String(status)})`, {
    hint: 'check the version and the mirror, or try again with REFRESH=always',
  })
}
