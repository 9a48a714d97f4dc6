// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import { BuildError } from '../../scripts/errors.ts'
import { PRIVATE_NAMESPACE } from '../../scripts/namespace.ts'
import { quote, requireTools, run } from '../../scripts/run.ts'
import type { ArchName } from '../../scripts/arch.ts'
import { discard, temporaryFor } from '../../scripts/temporary.ts'
import type { AptIndex, Suite } from '../../scripts/apt-index.ts'
import type { LockPlaces } from '../../scripts/package-lock/locked-file.ts'
import type { LockedPackage } from '../../scripts/package-lock/package-lock.ts'
import { TREE_TAR, UNPACK_FLAGS } from '../base-tree.ts'
import { explainApt } from './apt-explain.ts'
import { REPOSITORY, makeRepository, repositoryLine } from './apt-locked.ts'
import { packagesDigest, unfit } from './locked-guest.ts'
import { mergedUsrHooks } from './merged-usr.ts'
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
  readonly keyring: string
  readonly keepDocs: boolean
  /** The links of a merged /usr are made before anything is installed. */
  readonly mergedUsr: boolean
  readonly index: AptIndex
  readonly cacheDir: string
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

/** The signed indexes as apt keeps them, beside the tree that was made from them. */
const LISTS_TAR = 'lists.tar'

/**
 * Install the plan's packages into a new tree and store it as a tar, unpacking a copy on the way.
 *
 * The tree is made by mmdebstrap as root of namespaces of its own, in memory where there is enough,
 * because dpkg syncs every file. The tar's clock is that of the signed index, so the same index gives
 * the same bytes.
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
    'gpgv',
    'bash',
    ...foreignTools(plan.arch),
  ])
  const scratch = temporaryFor(`${tarFile}.scratch`)
  const repository = temporaryFor(`${tarFile}.repository`)
  await mkdir(scratch)
  await mkdir(repository)
  const used = [targetDir, tarFile, plan.keyring, options.lowerDir].filter((path) => path !== undefined)
  const workplace = workplaceOutside(used)
  try {
    if (plan.locked !== undefined) {
      const { suite, debianArch, components } = plan
      const of = { folder: repository, suite, debianArch, component: components[0] ?? 'main' }
      const epochSeconds = aptEpochSeconds(plan)
      await makeRepository(plan.locked.packages, { ...of, epochSeconds }, plan.locked.places)
    }
    await run(
      [
        ...PRIVATE_NAMESPACE,
        ['bash', '-euo', 'pipefail', '-c'],
        [
          mountWorkplace('"$3"', '"$4"'),
          'install -m 0644 "$5" "$3/keyring.gpg"',
          `mkdir "$3/${REPOSITORY}"; mount --bind "$6" "$3/${REPOSITORY}"`,
          targetDir === undefined ? '"${@:7}" > "$2"' : `"\${@:7}" | ${keepAndUnpack('"$2"', '"$1"')}`,
        ].join('\n'),
        ['bash', targetDir ?? '', tarFile, workplace, scratch, plan.keyring, repository],
        mmdebstrapArgv(
          plan,
          workplace,
          options.lowerDir === undefined ? firstLayer(plan, tarFile) : nextLayer(plan, options.lowerDir),
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

function mmdebstrapArgv(plan: AptPlan, workplace: string, layer: readonly string[]): string[] {
  return [
    ['mmdebstrap', '--mode=root', '--format=tar'],
    [`--architectures=${plan.debianArch}`],
    [`--keyring=${join(workplace, 'keyring.gpg')}`],
    // A mirror that cuts connections is tried again; one that is silent is given up.
    ['--aptopt=Acquire::Retries "5"', '--aptopt=Acquire::http::Timeout "30"'],
    ['--aptopt=Acquire::Languages "none"'],
    ['--dpkgopt=force-unsafe-io'],
    layer,
    [plan.suite, '-'],
    plan.locked === undefined
      ? sourceLines(plan.index.suites, plan.components)
      : repositoryLine(workplace, plan.suite, plan.components),
  ].flat()
}

/** The distro's own set, in an empty tree; apt's lists are kept for the layers over it. */
function firstLayer(plan: AptPlan, tarFile: string): string[] {
  const lists = join(dirname(tarFile), LISTS_TAR)
  const kept = ['--exclude=./partial', '--exclude=./auxfiles', '--exclude=./lock']
  return [
    '--variant=required',
    `--include=${plan.packages.join(',')}`,
    ...(plan.mergedUsr ? mergedUsrHooks(plan.debianArch, plan.locked === undefined) : []),
    ...(plan.keepDocs ? [] : [`--extract-hook=${WITHOUT_DOCUMENTS}`]),
    // Those of a private archive help nobody.
    ...(plan.locked === undefined
      ? [
          `--customize-hook=${quote(['tar', '--create', `--file=${lists}`, ...kept])} --directory "$1/var/lib/apt/lists" .`,
        ]
      : []),
  ]
}

/**
 * More packages, over the tree of the layer below. apt finds the lists of that layer there, and asks the
 * mirror only whether they are still its own.
 */
function nextLayer(plan: AptPlan, lowerDir: string): string[] {
  const unpack = quote(['tar', '--extract', `--file=${join(lowerDir, TREE_TAR)}`, ...UNPACK_FLAGS])
  const lists = join(lowerDir, LISTS_TAR)
  return [
    '--variant=custom',
    // The mirror's name in it may be that of another build.
    `--setup-hook=${unpack} --exclude=./etc/apt/sources.list --directory "$1"`,
    ...(existsSync(lists)
      ? [`--setup-hook=${quote(['tar', '--extract', `--file=${lists}`])} --directory "$1/var/lib/apt/lists"`]
      : []),
    [
      '--customize-hook=APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes',
      // apt of the host, dpkg of the guest, which shall not see the host's TMPDIR.
      '-o Dir::Bin::dpkg=env -o DPkg::Options::=--unset=TMPDIR -o DPkg::Options::=dpkg',
      `-o DPkg::Chroot-Directory="$1" install ${quote(plan.extra)}`,
    ].join(' '),
  ]
}
