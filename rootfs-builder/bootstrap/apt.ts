// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'

import { sha256 } from '../../scripts/digest.ts'
import { BuildError } from '../../scripts/errors.ts'
import type { ErrorCode } from '../../scripts/errors.ts'
import { PRIVATE_NAMESPACE } from '../../scripts/namespace.ts'
import { requireTools, run } from '../../scripts/run.ts'
import { ARCHES } from '../../scripts/arch.ts'
import type { ArchName } from '../../scripts/arch.ts'
import { hostArch } from '../../scripts/settings.ts'
import { discard, temporaryFor } from '../../scripts/temporary.ts'
import type { AptIndex, Suite } from '../../scripts/apt-index.ts'

/** All that decides what the base tree holds; its fingerprint names the tree in the cache. */
export interface AptPlan {
  readonly arch: ArchName
  readonly debianArch: string
  readonly suite: string
  readonly components: readonly string[]
  readonly packages: readonly string[]
  readonly keyring: string
  readonly keepDocs: boolean
  readonly index: AptIndex
}

/** What a guest does without; the licences of Debian packages stay. */
const DOCUMENTS = [
  'path-exclude=/usr/share/man/*',
  'path-exclude=/usr/share/info/*',
  'path-exclude=/usr/share/locale/*',
  'path-include=/usr/share/locale/locale.alias',
  'path-exclude=/usr/share/lintian/*',
  'path-exclude=/usr/share/bug/*',
  'path-exclude=/usr/share/doc/*',
  'path-include=/usr/share/doc/*/copyright',
]

/** Memory that must be free before a tree is made in it: tree, packages and lists, and as much again. Unit: bytes. */
const MEMORY_NEEDED = 3 * 1024 * 1024 * 1024

/** Inputs of the plan as the fingerprint sees them. */
export function aptInputs(plan: AptPlan): {
  readonly [key: string]: string | boolean | readonly string[] | readonly { readonly [key: string]: string }[]
} {
  return {
    debianArch: plan.debianArch,
    suite: plan.suite,
    components: plan.components,
    packages: plan.packages,
    keyring: sha256(readFileSync(plan.keyring)),
    keepDocs: plan.keepDocs,
    suites: plan.index.suites.map(({ suite, url, sha256: digest }) => ({ suite, url, sha256: digest })),
  }
}

/** The clock of the base tree: the newest of its signed indexes. Unit: seconds since 1970. */
export function aptEpochSeconds(plan: AptPlan): number {
  return Math.max(...plan.index.suites.map(({ dateSeconds }) => dateSeconds))
}

/** One-line apt sources. Source: sources.list(5). */
export function sourceLines(suites: readonly Suite[], components: readonly string[]): string[] {
  return suites.map(({ suite, url }) => ['deb', url, suite, ...components].join(' '))
}

/**
 * Install the plan's packages into a new tree and store it as a tar, unpacking a copy on the way.
 *
 * The tree is made by mmdebstrap as root of namespaces of its own, in memory where there is enough,
 * because dpkg syncs every file. The tar's clock is that of the signed index, so the same index gives
 * the same bytes.
 *
 * @param targetDir empty folder that gets the tree
 * @param tarFile gets the same tree for later builds
 */
export async function bootstrapApt(
  plan: AptPlan,
  targetDir: string,
  tarFile: string,
  options: { readonly logFile: string; readonly verbose: boolean },
): Promise<void> {
  requireTools([
    'mmdebstrap',
    'setpriv',
    'unshare',
    'tar',
    'apt-get',
    'gpgv',
    'bash',
    ...foreignTools(plan.arch),
  ])
  const scratch = temporaryFor(`${tarFile}.scratch`)
  await mkdir(scratch)
  try {
    await run(
      [
        ...PRIVATE_NAMESPACE,
        ['bash', '-euo', 'pipefail', '-c'],
        [
          // This mount is seen by the family of this command alone and ends with it.
          fitsInMemory() ? 'mount -t tmpfs -o mode=0755 osbuilder "$TMPDIR"' : '',
          // One pass: what goes into the cache is unpacked while it is written.
          '"${@:3}" | tee "$2" | tar --extract --directory "$1" ' + UNPACK_FLAGS.join(' '),
        ].join('\n'),
        ['bash', targetDir, tarFile],
        mmdebstrapArgv(plan),
      ].flat(),
      {
        ...options,
        cwd: '/',
        env: { TMPDIR: scratch, SOURCE_DATE_EPOCH: String(aptEpochSeconds(plan)) },
      },
    )
  } catch (error) {
    throw explain(error, plan, options.logFile)
  } finally {
    discard(scratch)
  }
}

/** Device nodes stay out: a user namespace cannot make them, and the packers add their own. */
const UNPACK_FLAGS = [
  '--numeric-owner',
  '--preserve-permissions',
  '--xattrs',
  "--xattrs-include='*'",
  "--exclude='./dev/*'",
]

/** Unpack a stored base tree. */
export async function unpackBase(tarFile: string, targetDir: string): Promise<void> {
  await run(
    [
      ['tar', '--extract', '--file', tarFile, '--directory', targetDir],
      UNPACK_FLAGS.map((flag) => flag.replaceAll("'", '')),
    ].flat(),
  )
}

function mmdebstrapArgv(plan: AptPlan): string[] {
  return [
    ['mmdebstrap', '--mode=root', '--format=tar', '--variant=required'],
    [`--architectures=${plan.debianArch}`],
    [`--include=${plan.packages.join(',')}`],
    [`--keyring=${plan.keyring}`],
    // A mirror that cuts connections is tried again; one that is silent is given up.
    ['--aptopt=Acquire::Retries "5"', '--aptopt=Acquire::http::Timeout "30"'],
    ['--aptopt=Acquire::Languages "none"'],
    ['--dpkgopt=force-unsafe-io'],
    plan.keepDocs ? [] : DOCUMENTS.map((line) => `--dpkgopt=${line}`),
    [plan.suite, '-'],
    sourceLines(plan.index.suites, plan.components),
  ].flat()
}

function foreignTools(arch: ArchName): string[] {
  return arch === hostArch() ? [] : [`qemu-${ARCHES[arch].qemu}-static`, 'arch-test']
}

/** True when the machine has memory to spare for the whole tree; else it is made on disk. */
function fitsInMemory(): boolean {
  const kib = /^MemAvailable:\s+(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0
  return Number(kib) * 1024 > MEMORY_NEEDED
}

/** What a failure is called, by what apt and dpkg said. The first that fits is the cause of the rest. */
const FAILURES: readonly {
  readonly said: RegExp
  readonly code: ErrorCode
  readonly message: string
  readonly hint: string
}[] = [
  {
    said: /Hash Sum mismatch|GPG error|is not signed|InRelease.*invalid|File has unexpected size/,
    code: 'E_SIGNATURE',
    message: 'the mirror served a package or index that is not the signed one',
    hint: 'try again later or use another mirror with REPO_URL',
  },
  {
    said: /Unable to fetch|Failed to fetch|Could not connect|Connection failed/,
    code: 'E_NETWORK',
    message: 'packages cannot be downloaded',
    hint: 'check the network, REPO_URL and http_proxy, then run the same command again',
  },
]

/** Lines of the log that tell a cause, not its consequences. */
const TELLING = /^(E: (?!setup failed|mmdebstrap failed)|Err:|dpkg: error)|Hash Sum mismatch/

/** Name what went wrong in the words of the user's settings. */
function explain(error: unknown, plan: AptPlan, logFile: string): unknown {
  if (!(error instanceof BuildError) || error.code !== 'E_COMMAND') return error
  const log = readFileSync(logFile, 'utf8')
  const telling = [...new Set(log.split('\n').filter((line) => TELLING.test(line)))].map((line) =>
    line.slice(0, 200),
  )
  const because = telling.length === 0 ? error.because : [...telling.slice(-6), `full log: ${logFile}`]
  const missing = [
    ...log.matchAll(/Unable to locate package (\S+)|Package '?([^\s']+)'? has no installation candidate/g),
  ]
  if (missing.length > 0) {
    const names = [...new Set(missing.map((match) => String(match[1] ?? match[2])))]
    return new BuildError('E_INPUT', `no package ${names.join(', ')} in ${plan.suite}`, {
      because,
      hint: 'check EXTRA_PKGS, OS_VERSION and REPO_COMPONENTS',
      cause: error,
    })
  }
  if (plan.arch !== hostArch() && /Exec format error|arch-test|can neither be executed/.test(log)) {
    return new BuildError('E_CONFIG', `this host cannot run programs of ${plan.arch}`, {
      because,
      hint: `sudo make ARCH=${plan.arch} setup`,
      cause: error,
    })
  }
  const failure = FAILURES.find(({ said }) => said.test(log))
  if (failure === undefined) return error
  return new BuildError(failure.code, failure.message, { because, hint: failure.hint, cause: error })
}
