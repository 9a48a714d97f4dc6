// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { ARCHES } from '../arch.ts'
import type { ArchName } from '../arch.ts'
import { findEntry, makeEntry } from '../cache.ts'
import { fingerprint } from '../digest.ts'
import { BuildError } from '../errors.ts'
import { note, report } from '../log.ts'
import { publishedKernel } from '../kernel-config.ts'
import { readManifest } from '../manifest.ts'
import { PROJECT_ROOT } from '../paths.ts'
import { capture, requireTools, run } from '../run.ts'
import { shell } from '../shell.ts'
import type { Settings } from '../settings.ts'
import type { Workspace } from '../workspace.ts'

export interface BootKernel {
  readonly file: string
  /** Where it comes from, in a few words. */
  readonly origin: string
  /** Folder of its modules (`lib/modules/<version>`), when it has any. */
  readonly modulesDir?: string
}

/** Debian release whose kernel boots a guest of a distro without one of its own. */
const STAND_IN = 'bookworm'

/**
 * The kernel to boot with: KERNEL, else the one `make kernel` built, else Debian's for virtual machines.
 *
 * @param guest what the manifest of the artifact tells of its distro
 */
export async function findKernel(
  settings: Settings,
  workspace: Workspace,
  guest: {
    readonly distro: string
    readonly release: string
    readonly arch: ArchName
    /** The root is checked by dm-verity: the measured variant is preferred. */
    readonly isMeasured: boolean
  },
): Promise<BootKernel> {
  if (settings.KERNEL !== '') {
    if (existsSync(settings.KERNEL)) return { file: settings.KERNEL, origin: settings.KERNEL }
    throw new BuildError('E_CONFIG', `KERNEL=${settings.KERNEL}: no such file`, {
      hint: 'leave KERNEL out to boot with a kernel of the distro',
    })
  }
  return (
    builtKernel(settings, workspace, guest) ??
    (await debianKernel(
      settings,
      workspace,
      guest.arch,
      guest.distro === 'debian' ? guest.release : STAND_IN,
    ))
  )
}

/** What `make kernel` left for the architecture and KERNEL_VARIANT, or undefined. */
function builtKernel(
  settings: Settings,
  workspace: Workspace,
  { arch, isMeasured }: { readonly arch: ArchName; readonly isMeasured: boolean },
): BootKernel | undefined {
  const suffix = [...new Set(settings.KERNEL_VARIANT)].map((name) => `-${name}`).join('')
  const named = join(workspace.workDir, `vmlinuz${suffix}.container`)
  const file = publishedKernel(settings, arch, isMeasured) ?? named
  if (!existsSync(file)) {
    if (suffix === '') return undefined
    throw new BuildError('E_INPUT', `${file}: no kernel of this variant`, {
      hint: `make kernel KERNEL_VARIANT="${settings.KERNEL_VARIANT.join(' ')}"    builds it`,
    })
  }
  const { arch: builtFor, release, files } = readManifest(file)?.result ?? {}
  if (typeof builtFor === 'string' && builtFor !== arch) {
    note(`${file} is for ${builtFor}, the guest for ${arch}: booting with a kernel of the distro`)
    return undefined
  }
  if (typeof release !== 'string' || !Array.isArray(files) || !files.includes(`modules-${release}`))
    return { file, origin: file }
  const modulesDir = join(workspace.workDir, `modules-${release}`, 'lib/modules', release)
  return { file, origin: file, modulesDir }
}

/** Debian's kernel package for virtual machines, downloaded and verified by apt, unpacked into the cache. */
async function debianKernel(
  settings: Settings,
  workspace: Workspace,
  arch: ArchName,
  release: string,
): Promise<BootKernel> {
  // Mirror and keyring of the settings are those of the guest's distro, which this kernel may not be of.
  const isOwn = settings.DISTRO === 'debian'
  const mirror = (isOwn && settings.REPO_URL) || 'http://deb.debian.org/debian'
  const keyring =
    (isOwn && settings.REPO_KEYRING) ||
    join(PROJECT_ROOT, 'rootfs-builder', 'debian', 'keys', 'debian-archive-keyring.gpg')
  const { kernelPackage, debian } = ARCHES[arch]
  const key = fingerprint({ mirror, release, debian, kernelPackage })
  let folder = findEntry(workspace.cacheDir, 'boot', key)
  if (folder === undefined && settings.OFFLINE) {
    throw new BuildError('E_CONFIG', 'OFFLINE=yes: there is no kernel to boot with', {
      because: ['one for trying out is downloaded, and no lock names it'],
      hint: 'make kernel    builds one; KERNEL=…    names one',
    })
  }
  if (folder === undefined) {
    report('KERNEL', `${kernelPackage} of ${release}`, 'downloading')
    requireTools(['apt-get', 'apt-cache', 'dpkg-deb', 'tar', 'depmod'])
    folder = await makeEntry(workspace.cacheDir, 'boot', key, (entry) =>
      downloadKernel(entry, { mirror, keyring, release, debian, kernelPackage }),
    )
  }
  return unpackedKernel(folder, `${kernelPackage} of ${release}`)
}

interface KernelRequest {
  readonly mirror: string
  readonly keyring: string
  readonly release: string
  readonly debian: string
  readonly kernelPackage: string
}

/**
 * Let apt work in folders of our own: the host's sources, lists, keys and packages play no part.
 *
 * It works in their folder, whose path it is not told: its list of sources cannot hold one with a space.
 */
async function downloadKernel(folder: string, request: KernelRequest): Promise<void> {
  const apt = join(folder, 'apt')
  const places = ['etc/apt/trusted.gpg.d', 'lists/partial', 'cache/archives/partial']
  for (const place of places) mkdirSync(join(apt, place), { recursive: true })
  writeFileSync(join(apt, 'status'), '')
  const source = `deb [arch=${request.debian}] ${request.mirror} ${request.release} main\n`
  writeFileSync(join(apt, 'etc/apt/sources.list'), source)
  const keyring = readFileSync(request.keyring)
  const ending = keyring.includes('-----BEGIN PGP') ? 'asc' : 'gpg'
  writeFileSync(join(apt, `etc/apt/trusted.gpg.d/archive.${ending}`), keyring)
  const options = Object.entries({
    Dir: './',
    'Dir::Etc': './etc/apt',
    'Dir::State': './',
    'Dir::State::lists': './lists',
    'Dir::State::status': './status',
    'Dir::Cache': './cache',
    'APT::Architecture': request.debian,
    'APT::Architectures': request.debian,
    'APT::Sandbox::User': 'root',
    'Acquire::Languages': 'none',
    'Acquire::Retries': '5',
  }).flatMap(([name, value]) => ['-o', `${name}=${value}`])
  const logFile = join(folder, 'apt.log')
  const inFolder = { cwd: apt, env: { APT_CONFIG: '/dev/null' } }
  await run(['apt-get', ...options, 'update'], { logFile, ...inFolder })
  const real = await realPackage(options, request.kernelPackage, inFolder)
  await run(['apt-get', ...options, 'download', real], { logFile, ...inFolder })
  const deb = readdirSync(apt).find((name) => name.endsWith('.deb'))
  if (deb === undefined) throw new BuildError('E_INPUT', `package ${real}: apt left no file`)
  await shell`dpkg-deb --fsys-tarfile ${join(apt, deb)} | tar --extract --no-same-owner --directory ${folder}`
  await run(['rm', '-r', apt])
  // A package holds no index of its modules; and compressed ones do not tell what they need without.
  if (existsSync(join(folder, 'usr/lib/modules')) && !existsSync(join(folder, 'lib'))) {
    symlinkSync('usr/lib', join(folder, 'lib'))
  }
  for (const version of readdirSync(join(folder, 'lib/modules'))) {
    await run(['depmod', '--basedir', folder, version], { logFile })
  }
}

/** The package with the kernel itself: the one with the stable name only depends on it. */
async function realPackage(
  options: readonly string[],
  name: string,
  inFolder: { readonly cwd: string; readonly env: Readonly<Record<string, string>> },
): Promise<string> {
  const text = await capture(['apt-cache', ...options, 'show', '--no-all-versions', name], inFolder)
  return /^Depends:.*?\b(linux-image-\d\S*)/m.exec(text)?.[1] ?? name
}

function unpackedKernel(folder: string, origin: string): BootKernel {
  const name = readdirSync(join(folder, 'boot')).find((file) => /^vmlinu[xz]-/.test(file))
  if (name === undefined) throw new BuildError('E_INPUT', `${folder}: the package has no kernel`)
  const version = name.replace(/^vmlinu[xz]-/, '')
  const modules = ['lib/modules', 'usr/lib/modules']
    .map((path) => join(folder, path, version))
    .find(existsSync)
  return {
    file: join(folder, 'boot', name),
    origin,
    ...(modules === undefined ? {} : { modulesDir: modules }),
  }
}

/** True for a kernel that unpacks an archive compressed so; undefined when its config is not beside it. */
export function canUnpack(kernel: BootKernel, symbol: string): boolean | undefined {
  const config = kernel.file.replace(/vmlinu[xz]-(?=[^/]*$)/, 'config-')
  if (config === kernel.file || !existsSync(config)) return undefined
  return readFileSync(config, 'utf8').includes(`\n${symbol}=y\n`)
}
