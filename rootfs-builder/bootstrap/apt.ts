// SPDX-License-Identifier: Apache-2.0
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'

import { BuildError } from '../../scripts/errors.ts'
import { PRIVATE_NAMESPACE } from '../../scripts/namespace.ts'
import { quote } from '../../scripts/command-error.ts'
import { requireTools, run } from '../../scripts/run.ts'
import type { ArchName } from '../../scripts/arch.ts'
import { discard, temporaryFor } from '../../scripts/temporary.ts'
import type { AptIndex, IndexRequest, Suite } from '../../scripts/apt-index.ts'
import type { SuiteLists } from '../../scripts/package-lock/apt-locked-index.ts'
import type { LockPlaces } from '../../scripts/package-lock/locked-file.ts'
import type { LockedPackage } from '../../scripts/package-lock/package-lock.ts'
import { TREE_TAR, UNPACK_FLAGS } from '../base-tree.ts'
import { REPOSITORY, haveChosen, haveLocked, makeArchive, repositoryLine } from './apt-archive.ts'
import { explainApt } from './apt-explain.ts'
import type { ChosenPackage } from './apt-resolve.ts'
import { packagesDigest, unfit } from './locked-guest.ts'
import { mergedUsrHook } from './merged-usr.ts'
import type { BootstrapOptions } from './plan.ts'
import { keepAndUnpack } from './tree-tar.ts'
import { foreignTools, mountWorkplace, workplaceOutside } from './workplace.ts'

/** All that decides what the base tree holds; its fingerprint names the tree in the cache. */
export interface AptPlan {
  readonly arch: ArchName
  readonly debianArch: string
  readonly suite: string
  readonly components: readonly string[]
  /** The distro's own set. */
  readonly packages: readonly string[]
  /** Packages added to it, in a second layer over the tree of the first. */
  readonly extra: readonly string[]
  readonly keepDocs: boolean
  /** The links of a merged /usr are made before anything is installed. */
  readonly mergedUsr: boolean
  readonly index: AptIndex
  /** How the index was asked for. */
  readonly request: IndexRequest
  /** The lists of packages; they are had once. */
  readonly lists: () => Promise<readonly SuiteLists[]>
  /** All packages that apt takes, those of the layer over this one too; it is asked once. */
  readonly choose: (options: { readonly logFile: string }) => Promise<readonly ChosenPackage[]>
  /** The packages of a lock, which then are all there is: no mirror is asked. */
  readonly locked?: { readonly packages: readonly LockedPackage[]; readonly places: LockPlaces }
}

/** Folders of /usr/share that a guest does without, and what stays in them: the licences of the packages. */
const DOCUMENTS = ['man', 'info', 'locale', 'lintian', 'bug', 'doc']
const KEPT_DOCUMENTS = ['locale/locale.alias', 'doc/*/copyright']

/**
 * Leave the documents out, as dpkg's path-exclude does.
 *
 * Given to mmdebstrap itself, path-exclude makes it pass what it extracts first through a filter that
 * takes 6 of 18 seconds. Here dpkg gets it for all that it installs, and a hook removes what was extracted.
 */
const WITHOUT_DOCUMENTS = [
  `cat >> "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap" <<'END'`,
  ...DOCUMENTS.map((name) => `path-exclude=/usr/share/${name}/*`),
  ...KEPT_DOCUMENTS.map((path) => `path-include=/usr/share/${path}`),
  'END',
  'cd "$1/usr/share"',
  `for folder in ${DOCUMENTS.join(' ')}; do`,
  '  [ -d "$folder" ] && [ ! -L "$folder" ] || continue',
  `  find "$folder" ! -type d ${KEPT_DOCUMENTS.map((path) => `! -path '${path}'`).join(' ')} -delete`,
  '  find "$folder" -mindepth 1 -type d -empty -delete',
  'done',
].join('\n')

/** Inputs of the plan as the fingerprint sees them. */
export function aptInputs(plan: AptPlan): {
  readonly [key: string]: string | boolean | readonly string[] | readonly { readonly [key: string]: string }[]
} {
  return {
    debianArch: plan.debianArch,
    suite: plan.suite,
    components: plan.components,
    packages: plan.packages,
    ...(plan.extra.length === 0 ? {} : { extra: plan.extra }),
    keepDocs: plan.keepDocs,
    ...(plan.mergedUsr ? { mergedUsr: true } : {}),
    // Whichever mirror serves it and whoever's key proves it: the same index names the same packages.
    suites: plan.index.suites.map(({ suite, sha256: digest }) => ({ suite, sha256: digest })),
    ...(plan.locked === undefined ? {} : { locked: packagesDigest(plan.locked.packages) }),
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
 * They are chosen and fetched first, or are those of the lock, and put into a private archive, from which
 * mmdebstrap makes the tree: as root of namespaces of its own, in memory where there is enough, because
 * dpkg syncs every file. The tar's clock is that of the signed index, so the same index gives the same bytes.
 *
 * @param targetDir empty folder that gets the tree; undefined when nobody needs it yet
 * @param tarFile gets the same tree for later builds
 */
export async function bootstrapApt(
  plan: AptPlan,
  targetDir: string | undefined,
  tarFile: string,
  options: BootstrapOptions,
): Promise<void> {
  requireTools([
    'mmdebstrap',
    'setpriv',
    'unshare',
    'tar',
    'apt-get',
    'dpkg-deb',
    'bash',
    ...foreignTools(plan.arch),
  ])
  const scratch = temporaryFor(`${tarFile}.scratch`)
  const repository = temporaryFor(`${tarFile}.repository`)
  await mkdir(scratch)
  await mkdir(repository)
  const used = [targetDir, tarFile, options.lowerDir].filter((path) => path !== undefined)
  const workplace = workplaceOutside(used)
  try {
    await fillArchive(plan, repository, options)
    await run(
      [
        ...PRIVATE_NAMESPACE,
        ['bash', '-euo', 'pipefail', '-c'],
        [
          mountWorkplace('"$3"', '"$4"'),
          `mkdir "$3/${REPOSITORY}"; mount --bind "$5" "$3/${REPOSITORY}"`,
          targetDir === undefined ? '"${@:6}" > "$2"' : `"\${@:6}" | ${keepAndUnpack('"$2"', '"$1"')}`,
        ].join('\n'),
        ['bash', targetDir ?? '', tarFile, workplace, scratch, repository],
        mmdebstrapArgv(
          plan,
          workplace,
          options.lowerDir === undefined ? firstLayer(plan) : nextLayer(plan, options.lowerDir),
        ),
      ].flat(),
      {
        logFile: options.logFile,
        verbose: options.verbose,
        cwd: '/',
        env: { TMPDIR: workplace, SOURCE_DATE_EPOCH: String(aptEpochSeconds(plan)) },
      },
    )
  } catch (error) {
    const explained = await explainApt(error, plan, options.logFile)
    const isUnfit = explained instanceof BuildError && explained.code === 'E_INPUT' && explained !== error
    if (plan.locked === undefined || !isUnfit) throw explained
    throw unfit(plan.locked.places, [explained.message], explained)
  } finally {
    discard(scratch)
    discard(repository)
  }
}

/** Put the packages into a private archive, those of the layer that is to be made. */
async function fillArchive(
  plan: AptPlan,
  folder: string,
  { logFile, lowerDir }: BootstrapOptions,
): Promise<void> {
  const { suite, debianArch, components, request } = plan
  const of = { folder, suite, debianArch, component: components[0] ?? 'main' }
  const archive = { ...of, epochSeconds: aptEpochSeconds(plan) }
  const ofLayer = <Item extends { readonly layer?: 'extra' }>(items: readonly Item[]): Item[] =>
    items.filter(({ layer }) => (layer === 'extra') === (lowerDir !== undefined))
  if (plan.locked === undefined) {
    const chosen = await plan.choose({ logFile })
    await makeArchive(ofLayer(chosen), (item) => haveChosen(item, request), archive)
  } else {
    const { packages, places } = plan.locked
    await makeArchive(ofLayer(packages), (item) => haveLocked(item, places), archive)
  }
}

function mmdebstrapArgv(plan: AptPlan, workplace: string, layer: readonly string[]): string[] {
  return [
    ['mmdebstrap', '--mode=root', '--format=tar'],
    [`--architectures=${plan.debianArch}`],
    ['--aptopt=Acquire::Languages "none"'],
    ['--dpkgopt=force-unsafe-io'],
    // Which keys sign the archive is not asked: it is ours, and not signed.
    ['--skip=check/signed-by'],
    layer,
    [`--customize-hook=${writeSources(plan)}`],
    [plan.suite, '-'],
    repositoryLine(workplace, plan.suite, plan.components),
  ].flat()
}

/** What the guest's apt is to ask, in the place of an archive that is no more; written as mmdebstrap does. */
function writeSources(plan: AptPlan): string {
  const lines = sourceLines(plan.index.suites, plan.components).flatMap((line) => ['', line])
  return `printf '%s\\n' ${quote(lines.slice(1))} > "$1/etc/apt/sources.list"`
}

/** The distro's own set, in an empty tree. */
function firstLayer(plan: AptPlan): string[] {
  return [
    '--variant=required',
    `--include=${plan.packages.join(',')}`,
    ...(plan.mergedUsr ? [mergedUsrHook(plan.debianArch)] : []),
    ...(plan.keepDocs ? [] : [`--extract-hook=${WITHOUT_DOCUMENTS}`]),
  ]
}

/** More packages, over the tree of the layer below. */
function nextLayer(plan: AptPlan, lowerDir: string): string[] {
  const unpack = quote(['tar', '--extract', `--file=${join(lowerDir, TREE_TAR)}`, ...UNPACK_FLAGS])
  return [
    '--variant=custom',
    // That in it names the archive of another bootstrap.
    `--setup-hook=${unpack} --exclude=./etc/apt/sources.list --directory "$1"`,
    [
      '--customize-hook=APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes',
      // apt of the host, dpkg of the guest, which shall not see the host's TMPDIR.
      '-o Dir::Bin::dpkg=env -o DPkg::Options::=--unset=TMPDIR -o DPkg::Options::=dpkg',
      `-o DPkg::Chroot-Directory="$1" install ${quote(plan.extra)}`,
    ].join(' '),
  ]
}
