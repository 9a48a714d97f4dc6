// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import type { IndexedSuite } from '../../scripts/apt-index.ts'
import { fieldOf, readListText, unpackedList } from '../../scripts/apt-lists.ts'
import { sha256 } from '../../scripts/digest.ts'
import { haveLists, lockedAptIndex } from '../../scripts/package-lock/apt-locked-index.ts'
import type { SuiteLists } from '../../scripts/package-lock/apt-locked-index.ts'
import { BuildError } from '../../scripts/errors.ts'
import type { LockedPackage } from '../../scripts/package-lock/package-lock.ts'
import { requireTools, run } from '../../scripts/run.ts'
import { discard, temporaryFor } from '../../scripts/temporary.ts'
import { reachableParagraphs } from './apt-closure.ts'
import { explainApt } from './apt-explain.ts'
import type { AptPlan } from './apt.ts'
import { NO_USRMERGE, PREFERENCES } from './merged-usr.ts'
import type { Resolution } from './plan.ts'

/** A package as the lists of an archive have it, its paragraph with one character per byte. */
interface Listed {
  readonly paragraph: string
  readonly index: IndexedSuite
}

/** A package that apt chose; `extra`: one that comes with EXTRA_PKGS, over the distro's own set. */
export interface ChosenPackage extends Listed {
  readonly layer?: 'extra'
}

/** Packages that one run of apt would install, as `name version arch`, in its order. */
type Chosen = readonly string[]

/**
 * All packages that mmdebstrap would install by a plan, with the signed indexes that name them, for a lock.
 *
 * @throws BuildError as choosePackages
 */
export async function resolveApt(plan: AptPlan, options: { readonly logFile: string }): Promise<Resolution> {
  const packages = await choosePackages(plan, options)
  const lists = await plan.lists()
  return {
    indexes: await Promise.all(lists.map((suite) => lockedAptIndex(suite, plan.request.cacheDir))),
    packages: packages.map((item) => ({
      ...lockedPackage(item),
      ...(item.layer === undefined ? {} : { layer: item.layer }),
    })),
  }
}

/**
 * All packages that mmdebstrap would install by a plan, without installing any.
 *
 * apt itself chooses them, in the steps in which mmdebstrap calls it, each over the packages of those
 * before. Its lists are the ones that the signed index names, fetched and checked by us.
 *
 * @throws BuildError as fetchFile; E_INPUT when a package is not there
 */
export async function choosePackages(
  plan: AptPlan,
  options: { readonly logFile: string },
): Promise<readonly ChosenPackage[]> {
  requireTools(['apt-get', 'xz', 'dpkg'])
  const folder = temporaryFor(join(plan.request.cacheDir, 'apt-resolve'))
  try {
    const suites = await reachableSuites(plan, await plan.lists())
    const listed = listedPackages(suites)
    await privateApt(plan, suites, folder, options.logFile)
    const status = new Map<string, Listed>()
    const choose = async (words: readonly string[]): Promise<Chosen> => {
      writeFileSync(join(folder, 'status'), statusText(status), 'latin1')
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
    return [...status].map(([key, item]) => ({ ...item, ...(own.has(key) ? {} : { layer: 'extra' }) }))
  } finally {
    discard(folder)
  }
}

/** Have the lists of all suites, unpacked in the cache. */
export async function listsOf(plan: AptPlan): Promise<readonly SuiteLists[]> {
  const { cacheDir } = plan.request
  const suites = await Promise.all(plan.index.suites.map((suite) => haveLists(suite, plan.request, plan)))
  await Promise.all(suites.flatMap(({ lists }) => lists.map((list) => unpackedList(list, cacheDir))))
  return suites
}

/** A suite with those paragraphs of its lists that apt could have a use for. */
interface ReachableSuite {
  readonly suite: IndexedSuite
  /** Signed text of its index. */
  readonly text: string
  readonly lists: readonly { readonly path: string; readonly paragraphs: readonly string[] }[]
}

async function reachableSuites(
  { request, packages, extra }: AptPlan,
  suites: readonly SuiteLists[],
): Promise<readonly ReachableSuite[]> {
  const texts = await Promise.all(
    suites.flatMap(({ lists }) => lists.map((list) => readListText(list, request.cacheDir))),
  )
  const found = reachableParagraphs(texts, [...packages, ...extra])
  return suites.map(({ suite, text, lists }) => ({
    suite,
    text,
    lists: lists.map(({ path }) => ({ path, paragraphs: found.shift() ?? [] })),
  }))
}

/** The patterns by which mmdebstrap asks for packages of the suite. Source: mmdebstrap 1.3.5, run_download and run_install */
function ofSuite({ suite, debianArch }: AptPlan, what: string): string {
  return `?narrow(?or(?archive(^${suite}$),?codename(^${suite}$)),?architecture(${debianArch}),${what})`
}

/** Every package by its key; of the same one in several suites the first, as apt takes it. */
function listedPackages(suites: readonly ReachableSuite[]): ReadonlyMap<string, Listed> {
  const listed = new Map<string, Listed>()
  for (const { suite, lists } of suites) {
    for (const paragraph of lists.flatMap(({ paragraphs }) => paragraphs)) {
      const key = ['Package', 'Version', 'Architecture'].map((name) => fieldOf(paragraph, name)).join(' ')
      if (!listed.has(key)) listed.set(key, { paragraph, index: suite })
    }
  }
  return listed
}

const CONFIG = 'apt.conf'

/** apt is told no path: its configuration cannot hold one with a quote. Its own temporary files are there too. */
function inFolder(folder: string): { readonly cwd: string; readonly env: Readonly<Record<string, string>> } {
  return { cwd: folder, env: { APT_CONFIG: CONFIG, TMPDIR: folder } }
}

/** Configure an apt that knows nothing of this host, and have it read its lists. */
async function privateApt(
  plan: AptPlan,
  suites: readonly ReachableSuite[],
  folder: string,
  logFile: string,
): Promise<void> {
  for (const place of ['etc/preferences.d', 'etc/apt.conf.d', 'lists/partial', 'cache/archives/partial']) {
    mkdirSync(join(folder, place), { recursive: true })
  }
  const sources = suites.map(({ suite, text, lists }, number) => {
    const archive = join(folder, 'archive', String(number))
    const dist = join(archive, 'dists', suite.suite)
    const rows = lists.map(({ path, paragraphs }) => {
      const plain = path.replace(/\.\w+$/, '')
      const content = Buffer.from(paragraphs.map((paragraph) => `${paragraph}\n\n`).join(''), 'latin1')
      mkdirSync(dirname(join(dist, plain)), { recursive: true })
      writeFileSync(join(dist, plain), content)
      return ` ${sha256(content)} ${String(content.length)} ${plain}\n`
    })
    mkdirSync(dist, { recursive: true })
    // The signature of the whole was checked, and the digests of the lists with it.
    const head = text.replace(/^(MD5Sum|SHA\d+):[^]*/m, '')
    writeFileSync(join(dist, 'Release'), `${head}SHA256:\n${rows.join('')}`)
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

/** What a list says of a package's file, not of the package. */
export const OF_FILE = /^(Filename|Size|MD5sum|SHA1|SHA256|SHA512|Description-md5):.*\n?/gim

/** Packages as dpkg tells of installed ones. */
function statusText(status: ReadonlyMap<string, Listed>): string {
  return [...status.values()]
    .map(({ paragraph }) => `${paragraph.replace(OF_FILE, '').trim()}\nStatus: install ok installed\n`)
    .join('\n')
}

/** A package as a lock names it. */
export function lockedPackage({ paragraph, index }: Listed): LockedPackage {
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
