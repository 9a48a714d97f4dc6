// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

import type { ArchName } from '../../../scripts/arch.ts'

/** One repository of rpm packages, its address filled in. */
export interface RpmRepository {
  readonly id: string
  readonly url: string
  /** What is signed: the packages, the index that names them by their digests, or both. */
  readonly signs: RpmSigned
  /** A mirror may lack it: used when it can be reached. */
  readonly optional?: true
  /** Made for one build, of packages that a lock names: its index has no signature. */
  readonly isPrivate?: true
}

export type RpmSigned = 'packages' | 'index' | 'both'

/** What dnf is told of where packages come from and whom to trust. */
export interface DnfSource {
  /** The distro's repositories; `host` for those that this host has set up. */
  readonly repositories: readonly RpmRepository[] | 'host'
  /** Files with the keys of the distro. */
  readonly keys: readonly string[]
  readonly arch: ArchName
  /** Stands for $releasever. */
  readonly releaseVersion: string
}

/** Folders that dnf is given, outside of the guest. */
export interface DnfPlaces {
  /** Its configuration and its logs. */
  readonly scratch: string
  /** What it keeps of mirrors. */
  readonly cache: string
}

/** Connections at once: a mirror serves few files quicker. */
const DOWNLOADS = 8

/** A server that says nothing for this long is given up. Unit: s. */
const SILENCE = 30

/** Where dnf's own logs go, below the scratch folder. */
export const DNF_LOGS = 'dnf-logs'

/** Where rpm finds its macros, below the scratch folder. */
export const RPM_HOME = 'home'

/** The configuration of dnf, complete: nothing of this host's adds to it. Source: dnf.conf(5). */
export function dnfConfig({ repositories, keys }: DnfSource): string {
  const main = section('main', {
    assumeyes: 1,
    best: 1,
    gpgcheck: 1,
    install_weak_deps: 0,
    keepcache: 1,
    max_parallel_downloads: DOWNLOADS,
    // The index is asked for when REFRESH says so, and never in between.
    metadata_expire: -1,
    plugins: 0,
    retries: 5,
    timeout: SILENCE,
    zchunk: 0,
    ...(repositories === 'host' ? {} : { reposdir: '/dev/null', varsdir: '/dev/null' }),
  })
  const own = repositories === 'host' ? [] : repositories
  return [
    main,
    ...own.map(({ id, url, signs, optional, isPrivate }) =>
      section(id, {
        name: id,
        baseurl: url,
        // A space or a comma would begin another one.
        gpgkey: keys.map((file) => pathToFileURL(file).href.replaceAll(',', '%2C')).join(' '),
        // With a signed index the digests in it prove the packages.
        gpgcheck: signs === 'index' ? 0 : 1,
        repo_gpgcheck: signs === 'packages' || isPrivate === true ? 0 : 1,
        skip_if_unavailable: optional === true ? 1 : 0,
      }),
    ),
  ].join('\n')
}

function section(name: string, values: Readonly<Record<string, string | number>>): string {
  return [`[${name}]`, ...Object.entries(values).map(([key, value]) => `${key}=${String(value)}`), ''].join(
    '\n',
  )
}

/**
 * Macros of rpm, for the new guest. Source: rpm's macros file.
 *
 * @param database path of its database in the guest
 */
export function rpmMacros(database: string, keepDocs: boolean): string {
  return [
    // Debian's rpm would put it into the home of root.
    `%_dbpath /${database}`,
    '%_db_backend sqlite',
    // These are mounted while packages are installed.
    '%_netsharedpath /dev:/proc:/sys',
    ...(keepDocs ? [] : ['%_excludedocs 1', '%_install_langs C']),
    '',
  ].join('\n')
}

/** A call of dnf for a guest. Options on the command line are not taken to be below the guest's root. */
export function dnfArgv(
  source: DnfSource,
  { scratch, cache }: DnfPlaces,
  root: string,
  command: readonly string[],
): string[] {
  return [
    ['dnf', `--config=${join(scratch, 'dnf.conf')}`, `--installroot=${root}`],
    [`--setopt=cachedir=${cache}`, `--setopt=persistdir=${join(scratch, 'state')}`],
    [`--setopt=logdir=${join(scratch, DNF_LOGS)}`],
    [`--releasever=${source.releaseVersion}`, `--forcearch=${source.arch}`],
    // Whatever this host's own configuration of them says.
    source.repositories === 'host' ? ['--setopt=*.gpgcheck=1'] : [],
    command,
  ].flat()
}
