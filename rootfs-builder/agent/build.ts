// SPDX-License-Identifier: Apache-2.0
import { chmodSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

import { ARCHES } from '../../scripts/arch.ts'
import type { ArchName } from '../../scripts/arch.ts'
import { findEntry, makeEntry } from '../../scripts/cache.ts'
import { fingerprint, sha256, sha256File } from '../../scripts/digest.ts'
import { BuildError } from '../../scripts/errors.ts'
import { packageHint } from '../../scripts/host-tools.ts'
import { PROJECT_ROOT } from '../../scripts/paths.ts'
import { capture, findTool } from '../../scripts/run.ts'
import { hostArch } from '../../scripts/settings.ts'
import { toolVersion } from '../../scripts/tools.ts'

const SOURCE_DIR = join(PROJECT_ROOT, 'rootfs-builder', 'agent')

/** The program, compiled. */
export interface CompiledAgent {
  readonly file: string
  readonly sha256: string
}

export interface BundledAgent {
  /** Settles when it is compiled, unless it is in the cache. */
  readonly program: Promise<CompiledAgent>
  /** The compiler that made it, as it names itself. */
  readonly compiler: string
  /** Digest of its sources. */
  readonly source: string
}

/**
 * The bundled agent for an architecture, compiled when its source or compiler is new: in the background, for
 * nobody needs it before there is a tree to put it in.
 *
 * @throws BuildError E_TOOL_MISSING when there is no compiler for it
 */
export async function bundledAgent(arch: ArchName, cacheDir: string): Promise<BundledAgent> {
  const compiler = compilerFor(arch)
  const version = await toolVersion(compiler, cacheDir)
  const flags = ['-std=gnu11', '-Os', '-static', '-s', '-Wall', '-Wextra', '-Wl,--build-id=none']
  const names = readdirSync(SOURCE_DIR).filter((name) => /\.[ch]$/.test(name))
  const sources = names.sort().map((name) => [name, sha256(readFileSync(join(SOURCE_DIR, name)))])
  const key = fingerprint({ sources, compiler, version, flags })
  const compile = (): Promise<string> =>
    makeEntry(cacheDir, 'agent', key, async (entry) => {
      const file = join(entry, 'agent')
      // The same names for everyone: a path of this machine must not get into the program.
      const units = names.filter((name) => name.endsWith('.c'))
      // What gcc makes on the way, it removes; until then that is in the cache too.
      const env = { TMPDIR: entry }
      await capture([compiler, ...flags, '-o', file, ...units], { cwd: SOURCE_DIR, env, isBeside: true })
      chmodSync(file, 0o755)
    })
  const program = have(findEntry(cacheDir, 'agent', key) ?? compile())
  // Whoever waits for it is told that it failed; who failed before does not wait any more.
  program.catch(() => undefined)
  return { program, compiler: `${compiler}: ${version}`, source: fingerprint(sources) }
}

async function have(entry: string | Promise<string>): Promise<CompiledAgent> {
  const file = join(await entry, 'agent')
  return { file, sha256: sha256File(file) }
}

/** musl makes a small static program; only the host's own architecture has a package for it. */
function compilerFor(arch: ArchName): string {
  const native = arch === hostArch()
  const candidates = native ? ['musl-gcc', 'gcc'] : [`${ARCHES[arch].triplet}-gcc`]
  const found = candidates.find((tool) => findTool(tool) !== undefined)
  if (found !== undefined) return found
  throw new BuildError('E_TOOL_MISSING', `no compiler for the bundled agent on ${arch}`, {
    because: candidates.map((tool) => packageHint(tool)),
    hint: `sudo make ARCH=${arch} setup    or give an agent with AGENT_SOURCE_BIN`,
  })
}
