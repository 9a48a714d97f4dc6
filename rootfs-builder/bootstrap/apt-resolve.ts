// SPDX-License-Identifier: Apache-2.0
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import type { IndexRequest, IndexedSuite } from '../../scripts/apt-index.ts'
import { fieldOf, readPackageList } from '../../scripts/apt-lists.ts'
import { haveLists, lockedAptIndex } from '../../scripts/package-lock/apt-locked-index.ts'
import type { SuiteLists } from '../../scripts/package-lock/apt-locked-index.ts'
import { BuildError } from '../../scripts/errors.ts'
import type { LockedPackage } from '../../scripts/package-lock/package-lock.ts'
import { requireTools, run } from '../../scripts/run.ts'
import { discard, temporaryFor } from '../../scripts/temporary.ts'
import { explainApt } from './apt-explain.ts'
import type { AptPlan } from './apt.ts'
import { NO_USRMERGE, PREFERENCES } from './merged-usr.ts'
import type { Resolution } from './plan.ts'

/** A package as the lists of an archive have it. */
interface Listed {
  readonly paragraph: string
  readonly index: IndexedSuite
}

/** Packages that one run of apt would install, as `name version arch`, in its order. */
type Chosen = readonly string[]

/**
 * All packages that mmdebstrap would install by a plan, without installing any.
 *
 * apt itself chooses them, in the steps in which mmdebstrap calls it, each over the packages of those
 * before. Its lists are the ones that the signed index names, fetched and checked by us.
 *
 * @throws BuildError as fetchFile; E_INPUT when a package is not there
 */
export async function resolveApt(
  plan: AptPlan,
  request: IndexRequest,
  options: { readonly logFile: string },
): Promise<Resolution> {
  requireTools(['apt-get', 'xz', 'dpkg'])
  const folder = temporaryFor(join(request.cacheDir, 'apt-resolve'))
  try {
    const lists = await Promise.all(plan.index.suites.map((suite) => haveLists(suite, request, plan)))
    const listed = await listedPackages(lists, request.cacheDir)
    await privateApt(plan, lists, folder, options.logFile)
    const status = new Map<string, Listed>()
    const choose = async (words: readonly string[]): Promise<Chosen> => {
      writeFileSync(join(folder, 'status'), statusText(status))
      const chosen = await simulate(words, { plan, folder, logFile: options.logFile })
      for (const key of chosen) {
        const found = listed.get(key)
        if (found === undefined) throw new TypeError(`apt chose ${key}, which is in no list`)
        status.set(key, found)
      }
      return chosen
    }
    await choose([ofSuite(plan, '?essential')])
    await choose([...plan.packages, ofSuite(plan, '?and(?priority(required),?not(?essential))')])
    const own = new Set(status.keys())
    if (plan.extra.length > 0) await choose(plan.extra)
    return {
      indexes: await Promise.all(lists.map((suite) => lockedAptIndex(suite, request.cacheDir))),
      packages: [...status].map(([key, item]) => ({
        ...lockedPackage(item),
        ...(own.has(key) ? {} : { layer: 'extra' as const }),
      })),
    }
  } finally {
    discard(folder)
  }
}

/** The patterns by which mmdebstrap asks for packages of the suite. Source: mmdebstrap 1.3.5, run_download and run_install */
function ofSuite({ suite, debianArch }: AptPlan, what: string): string {
  return `?narrow(?or(?archive(^${suite}$),?codename(^${suite}$)),?architecture(${debianArch}),${what})`
}

/** Every package by its key; of the same one in several suites the first, as apt takes it. */
async function listedPackages(
  suites: readonly SuiteLists[],
  cacheDir: string,
): Promise<ReadonlyMap<string, Listed>> {
  const listed = new Map<string, Listed>()
  for (const { suite, lists } of suites) {
    for (const list of lists) {
      for (const paragraph of await readPackageList(list, cacheDir)) {
        const key = ['Package', 'Version', 'Architecture'].map((name) => fieldOf(paragraph, name)).join(' ')
        if (!listed.has(key)) listed.set(key, { paragraph, index: suite })
      }
    }
  }
  return listed
}

const CONFIG = 'apt.conf'

/** apt is told no path: its configuration cannot hold one with a quote. */
function inFolder(folder: string): { readonly cwd: string; readonly env: { readonly APT_CONFIG: string } } {
  return { cwd: folder, env: { APT_CONFIG: CONFIG } }
}

/** Configure an apt that knows nothing of this host, and have it read its lists. */
async function privateApt(
  plan: AptPlan,
  suites: readonly SuiteLists[],
  folder: string,
  logFile: string,
): Promise<void> {
  for (const place of ['etc/preferences.d', 'lists/partial', 'cache/archives/partial']) {
    mkdirSync(join(folder, place), { recursive: true })
  }
  const sources = suites.map(({ suite, text, lists }, number) => {
    const archive = join(folder, 'archive', String(number))
    const dist = join(archive, 'dists', suite.suite)
    for (const { path, file } of lists) {
      mkdirSync(dirname(join(dist, path)), { recursive: true })
      copyFileSync(file, join(dist, path))
    }
    mkdirSync(dist, { recursive: true })
    // Its signature was checked, and the digests of the lists with it.
    writeFileSync(join(dist, 'Release'), text)
    return `deb [trusted=yes] copy:${encodeURI(archive)} ${suite.suite} ${plan.components.join(' ')}\n`
  })
  writeFileSync(join(folder, 'etc/sources.list'), sources.join(''))
  if (plan.mergedUsr) writeFileSync(join(folder, 'etc/preferences.d', PREFERENCES), NO_USRMERGE)
  writeFileSync(join(folder, 'status'), '')
  const config = Object.entries({
    // Read before all else: this host's own apt.conf.d is not below it.
    Dir: './',
    'Dir::Etc': './etc',
    'Dir::State': './',
    'Dir::State::lists': './lists',
    'Dir::State::status': './status',
    'Dir::Cache': './cache',
    'APT::Architecture': plan.debianArch,
    'APT::Architectures': plan.debianArch,
    'APT::Install-Recommends': 'false',
    'APT::Sandbox::User': 'root',
    // As mmdebstrap has it: apt does not take itself for essential.
    'pkgCacheGen::ForceEssential': ',',
    'Acquire::Languages': 'none',
    'Acquire::By-Hash': 'no',
    // Age was judged when the index was read.
    'Acquire::Check-Valid-Until': 'false',
  }).map(([name, value]) => `${name} "${value}";\n`)
  writeFileSync(join(folder, CONFIG), config.join(''))
  await run(['apt-get', 'update', '--error-on=any'], { logFile, ...inFolder(folder) })
}

async function simulate(
  words: readonly string[],
  of: { readonly plan: AptPlan; readonly folder: string; readonly logFile: string },
): Promise<Chosen> {
  const { plan, folder, logFile } = of
  const chosen: string[] = []
  const removed: string[] = []
  try {
    await run(['apt-get', '--simulate', '--yes', 'install', ...words], {
      logFile,
      ...inFolder(folder),
      onLine: (line) => {
        const [, name, version, arch] =
          /^Inst (\S+?)(?::\S+)? (?:\[\S+\] )?\((\S+) .*\[(\S+)\]\)/.exec(line) ?? []
        if (name !== undefined) chosen.push([name, version, arch].join(' '))
        else if (line.startsWith('Remv ')) removed.push(line.split(' ')[1] ?? '')
      },
    })
  } catch (error) {
    throw await explainApt(error, plan, logFile)
  }
  if (removed.length === 0) return chosen
  throw new BuildError(
    'E_INPUT',
    `EXTRA_PKGS=${plan.extra.join(' ')}: apt would remove ${removed.join(', ')}`,
    {
      hint: 'leave out what does not fit to the packages of the distro',
    },
  )
}

/** Packages as dpkg tells of installed ones. */
function statusText(status: ReadonlyMap<string, Listed>): string {
  const ofFile = /^(Filename|Size|MD5sum|SHA1|SHA256|SHA512|Description-md5):.*\n?/gm
  return [...status.values()]
    .map(({ paragraph }) => `${paragraph.replace(ofFile, '').trim()}\nStatus: install ok installed\n`)
    .join('\n')
}

function lockedPackage({ paragraph, index }: Listed): LockedPackage {
  const field = (name: string): string => fieldOf(paragraph, name)
  return {
    name: field('Package'),
    version: field('Version'),
    arch: field('Architecture'),
    index: index.suite,
    // A colon of a version may be in the name of the file.
    url: encodeURI(`${index.url}/${field('Filename').replace(/^\.\//, '')}`),
    sizeBytes: Number(field('Size')),
    sha256: field('SHA256'),
    ...(field('Priority') === '' ? {} : { priority: field('Priority') }),
    ...(field('Section') === '' ? {} : { section: field('Section') }),
  }
}
