// SPDX-License-Identifier: Apache-2.0
import type { ArchName } from './arch.ts'
import { elfArch, elfArchOf } from './elf.ts'
import { BuildError } from './errors.ts'
import { followPath } from './guest-path.ts'
import type { TreeEntry } from './tree.ts'

export interface GuestRules {
  readonly agentInit: boolean
  /** Name of the agent in /usr/bin. */
  readonly agentBin: string
  readonly arch: ArchName
}

const SYSTEMD = ['usr/lib/systemd/systemd', 'lib/systemd/systemd'] as const

/** The entry a guest path leads to, links followed as the guest would; undefined when there is none. */
export function findEntry(tree: ReadonlyMap<string, TreeEntry>, path: string): TreeEntry | undefined {
  const found = followPath(path, (place) => tree.get(place)?.linkTarget)
  return found === undefined ? undefined : tree.get(found)
}

/** Where a guest has systemd: a tree of Debian 11 keeps it in /lib, which is no link there. */
export function systemdOf(entries: readonly TreeEntry[]): string {
  const tree = new Map(entries.map((entry) => [entry.path, entry]))
  const path = SYSTEMD.find((name) => findEntry(tree, name) !== undefined) ?? SYSTEMD[0]
  return `/${path}`
}

/**
 * Refuse a tree that would not come up: no init, no agent, programs of another machine.
 *
 * @throws BuildError E_INPUT listing everything that is wrong
 */
export function checkRootfs(entries: readonly TreeEntry[], rules: GuestRules, name: string): void {
  const problems = rootfsProblems(entries, rules)
  if (problems.length === 0) return
  throw new BuildError('E_INPUT', `${name}: this rootfs would not come up`, {
    because: problems,
    hint: `build it with the same AGENT_INIT (${rules.agentInit ? 'yes' : 'no'}); SKIP_ROOTFS_CHECK=yes packs it all the same`,
  })
}

/** What is wrong with a tree, one line each. */
export function rootfsProblems(entries: readonly TreeEntry[], rules: GuestRules): string[] {
  const tree = new Map(entries.map((entry) => [entry.path, entry]))
  const problems: string[] = []
  const program = (path: string): TreeEntry | undefined => {
    const entry = findEntry(tree, path)
    return entry?.type === 'file' && (entry.mode & 0o111) !== 0 ? entry : undefined
  }
  const init = program('sbin/init')
  const systemd = SYSTEMD.map((path) => findEntry(tree, path)).find((entry) => entry !== undefined)
  if (init === undefined) problems.push('/sbin/init: no such program')
  if (rules.agentInit) {
    if (init !== undefined && init.path === systemd?.path) {
      problems.push('/sbin/init: is systemd, but AGENT_INIT=yes wants the agent there')
    }
  } else {
    if (systemd === undefined)
      problems.push('/usr/lib/systemd/systemd: is missing, but AGENT_INIT=no wants systemd')
    const agent = `usr/bin/${rules.agentBin}`
    if (program(agent) === undefined) problems.push(`/${agent}: no such program; AGENT_BIN names the agent`)
    for (const unit of ['kata-agent.service', 'kata-containers.target']) {
      const places = ['usr/lib/systemd/system', 'lib/systemd/system', 'etc/systemd/system']
      if (places.some((folder) => findEntry(tree, `${folder}/${unit}`) !== undefined)) continue
      problems.push(`${unit}: no such unit, so systemd would not start the agent`)
    }
  }
  for (const path of rules.agentInit ? ['sbin/init'] : ['sbin/init', `usr/bin/${rules.agentBin}`]) {
    const found = machineOf(program(path))
    if (found !== undefined && found !== rules.arch) {
      problems.push(
        `/${path}: is a program for ${found === 'other' ? 'another machine' : found}, not for ${rules.arch}`,
      )
    }
  }
  for (const folder of ['proc', 'sys', 'dev', 'run']) {
    if (findEntry(tree, folder)?.type !== 'directory') problems.push(`/${folder}: no such folder to mount on`)
  }
  return problems
}

function machineOf(entry: TreeEntry | undefined): ArchName | 'other' | undefined {
  if (entry?.source === undefined) return undefined
  return typeof entry.source === 'string' ? elfArch(entry.source) : elfArchOf(entry.source)
}
