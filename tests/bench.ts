// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process'
import { appendFileSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg } from 'node:os'
import { join } from 'node:path'

import { prepareAlpine } from './bench/alpine.ts'
import {
  MIRROR,
  WORKDIR,
  debos,
  forgetMkosi,
  gzipInitrd,
  isInstalled,
  kataImage,
  loopAndCopy,
  mkosi,
  mkosiAgain,
  mmdebstrap,
  setAside,
  timed,
  versionOf,
} from './bench/plain.ts'
import type { Other } from './bench/plain.ts'
import { absentRow, compareRuns, readHistory, row } from './bench/times.ts'
import type { CaseResult, Run, Times } from './bench/times.ts'
import { PROJECT } from './system/user.ts'

/**
 * Time our builds against others doing the same work, in one run, and print ratios.
 *
 * Each case is run ROUNDS times, all sides in turn, so that a busy machine slows each. Needs root for the
 * loop devices of the others, and the network or REPO_URL for the packages. CASES='cold|no change' runs only
 * cases whose name matches that expression.
 */
const ROUNDS = Number(process.env['ROUNDS'] ?? '5')
const WANTED = new RegExp(process.env['CASES'] ?? '')

const SETTINGS = {
  DISTRO: 'debian',
  REPO_URL: MIRROR,
  WORKDIR,
  INITRD_COMPRESSION: 'zstd',
  SOURCE_DATE_EPOCH: '1795000000',
}

interface Case {
  readonly name: string
  readonly ours: () => number
  readonly others?: readonly Other[]
}

function ours(command: string, settings: Readonly<Record<string, string>> = {}): number {
  return timed(command, { ...SETTINGS, ...settings })
}

/** Without rootfs, artifacts and cache. */
function cold(target: string): number {
  setAside(WORKDIR)
  return ours(`make ${target}`)
}

/** The image or initrd step alone, on the rootfs that is there. */
function packed(target: 'image' | 'initrd', file: string): number {
  ours('make rootfs')
  for (const name of [file, `.${file}.state`]) rmSync(join(WORKDIR, name), { force: true })
  return ours(`make pack-${target}`)
}

/** The settings of a build whose agent is not that of the build before. */
function changedAgent(): Record<string, string> {
  const agent = join(WORKDIR, 'bench-agent')
  if (!existsSync(agent)) writeFileSync(agent, '#!/bin/sh\n', { mode: 0o755 })
  appendFileSync(agent, '# changed\n')
  return { AGENT_SOURCE_BIN: agent }
}

/** Build with one agent, then time the build with another: the first one may find anything there. */
function agentChanged(target: string, settings: Readonly<Record<string, string>> = {}): number {
  ours(`make ${target}`, { ...changedAgent(), ...settings })
  return ours(`make ${target}`, { ...changedAgent(), ...settings })
}

/** Small packages, a new one for each round. */
const ADDED = ['strace', 'less', 'jq', 'tree', 'bc', 'file', 'lsof', 'psmisc', 'socat', 'tcpdump']

function packageAdded(): number {
  ours('make rootfs')
  return ours('make image', { EXTRA_PKGS: ADDED.shift() ?? 'time' })
}

const plain = (name: string, needs: readonly string[], run: () => number): Other => ({ name, needs, run })

const fromMkosi = (name: string, run: () => number): Other => ({
  name: `mkosi, ${name}`,
  needs: ['mkosi'],
  run,
})

function coldMkosi(): number {
  forgetMkosi()
  return mkosi('gpt_ext4')
}

const ALPINE_WARM = 'alpine, 9 packages, warm -> initrd (zstd)'
const alpine = WANTED.test(ALPINE_WARM) ? await prepareAlpine() : undefined

const IMAGE_TOOLS = ['losetup', 'mkfs.ext4', 'parted', 'qemu-img']
const KATA_IMAGE = plain("Kata's procedure", IMAGE_TOOLS, kataImage)
const KATA_INITRD = plain('find | cpio | gzip -9', ['cpio'], gzipInitrd)
const KATA_COLD = plain("Kata's way", ['mmdebstrap', ...IMAGE_TOOLS], () => mmdebstrap() + kataImage())

/** In this order: later cases find what earlier ones left. */
const CASES: readonly Case[] = [
  {
    name: 'cold -> rootfs',
    ours: () => cold('rootfs'),
    others: [
      plain('mmdebstrap alone', ['mmdebstrap'], () => mmdebstrap()),
      plain('mmdebstrap, the same packages', ['mmdebstrap'], () => mmdebstrap('as ours')),
      plain('debos, packed as tar', ['debos'], debos),
    ],
  },
  {
    name: 'cold -> image',
    ours: () => cold('image'),
    others: [
      KATA_COLD,
      {
        ...KATA_COLD,
        name: "Kata's way, the same packages",
        run: () => mmdebstrap('as ours') + kataImage(),
      },
      fromMkosi('disk', coldMkosi),
    ],
  },
  {
    name: 'cold -> image and initrd',
    ours: () => cold('all'),
    others: [{ ...KATA_COLD, run: () => KATA_COLD.run() + gzipInitrd() }],
  },
  {
    name: 'rootfs -> image',
    ours: () => packed('image', 'kata-containers.img'),
    others: [KATA_IMAGE, plain('its loop, mount and cp -a alone', ['losetup', 'mkfs.ext4'], loopAndCopy)],
  },
  {
    name: 'rootfs -> initrd (zstd)',
    ours: () => packed('initrd', 'kata-containers-initrd.img'),
    others: [KATA_INITRD],
  },
  ...['rootfs', 'image', 'initrd'].map((target) => ({
    name: `no change -> ${target}`,
    ours: () => {
      ours(`make ${target}`)
      return ours(`make ${target}`)
    },
  })),
  { name: 'agent changed -> rootfs', ours: () => agentChanged('rootfs') },
  {
    name: 'agent changed -> image',
    ours: () => agentChanged('image'),
    others: [KATA_IMAGE, fromMkosi('disk, incremental', () => mkosiAgain('gpt_ext4'))],
  },
  {
    name: 'agent changed -> initrd (zstd)',
    ours: () => agentChanged('initrd'),
    others: [KATA_INITRD, fromMkosi('cpio with zstd, incremental', () => mkosiAgain('cpio'))],
  },
  { name: 'agent changed -> initrd, DEV=yes', ours: () => agentChanged('initrd', { DEV: 'yes' }) },
  {
    name: 'package added -> image',
    ours: packageAdded,
    others: [KATA_COLD, fromMkosi('disk, its packages kept', () => mkosi('gpt_ext4'))],
  },
  ...(alpine === undefined ? [] : [{ name: ALPINE_WARM, ours: alpine.warmInitrd }]),
]

/** Run every side of a case in turn, round by round, and print its rows. */
function measure({ name, ours: own, others = [] }: Case): CaseResult {
  const present = others.filter(isInstalled)
  const mine: number[] = []
  const theirs = new Map<string, number[]>(present.map((other) => [other.name, []]))
  for (let round = 0; round < ROUNDS; round += 1) {
    mine.push(own())
    for (const other of present) theirs.get(other.name)?.push(other.run())
  }
  const rows = [row(name, mine)]
  for (const { name: other } of others) {
    const times: Times | undefined = theirs.get(other)
    rows.push(times === undefined ? absentRow(`  ${other}`) : row(`  ${other}`, times, mine))
  }
  process.stdout.write(`${rows.join('\n')}\n`)
  return { ours: mine, others: Object.fromEntries(theirs) }
}

function git(...words: string[]): string {
  return spawnSync('git', words, { cwd: PROJECT, encoding: 'utf8' }).stdout.trim()
}

const loadNow = (): number => Number((loadavg()[0] ?? 0).toFixed(1))

const begin = { date: new Date().toISOString(), load: loadNow() }
const isChanged = git('status', '--porcelain', '--untracked-files=no') !== ''
const commit = `${git('rev-parse', '--short', 'HEAD') || 'none'}${isChanged ? '+' : ''}`
const versions = Object.fromEntries(
  ['mmdebstrap', 'mkosi', 'debos', 'debootstrap'].map((name) => [name, versionOf(name) ?? 'not installed']),
)
const machine = `${String(availableParallelism())} x ${cpus()[0]?.model.trim() ?? 'unknown processor'}`
process.stdout.write(
  [
    `  ${begin.date}  commit ${commit}  load ${String(begin.load)}  ${String(ROUNDS)} rounds`,
    `  ${machine}, node ${process.versions.node}, ${Object.entries(versions).flat().join(' ')}`,
    `  ${'case'.padEnd(44)}  median    least..most    as a multiple of ours`,
    '',
  ].join('\n'),
)

const cases: Record<string, CaseResult> = {}
for (const item of CASES) {
  if (WANTED.test(item.name)) cases[item.name] = measure(item)
}
await alpine?.close()

const sizes = Object.fromEntries(
  ['kata-containers.img', 'kata-containers-initrd.img', 'plain-initrd.img']
    .map((file) => join(WORKDIR, file))
    .filter((file) => existsSync(file))
    .map((file) => [file.slice(WORKDIR.length + 1), statSync(file).size]),
)
const result: Run = { date: begin.date, commit, load: [begin.load, loadNow()], cases }
const whole = { ...result, rounds: ROUNDS, machine, node: process.versions.node, versions, sizes }
const historyFile = join(PROJECT, 'workdir', 'bench.jsonl')
const history = existsSync(historyFile) ? readHistory(readFileSync(historyFile, 'utf8')) : []
const told = compareRuns(result, history)
process.stdout.write(
  [
    `  bytes: ${Object.entries(sizes).flat().join(' ')}`,
    `  load at the end ${String(result.load[1])}; workdir/bench.json has this run, workdir/bench.jsonl all`,
    ...told.map((line) => `  ${line}`),
    '',
  ].join('\n'),
)
writeFileSync(join(PROJECT, 'workdir', 'bench.json'), `${JSON.stringify(whole, null, 1)}\n`)
appendFileSync(historyFile, `${JSON.stringify(whole)}\n`)
