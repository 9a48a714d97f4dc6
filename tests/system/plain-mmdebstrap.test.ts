// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'

import { debian } from '../../rootfs-builder/debian/distro.ts'
import { selectPackages } from '../../rootfs-builder/distro.ts'
import { startMirror } from '../mirrors/apt.ts'
import {
  accounts,
  compareTrees,
  linesOf,
  ownerNames,
  paragraphs,
  readWhole,
  unexplained,
} from './compare-trees.ts'
import type { Allowed, Tree } from './compare-trees.ts'
import { PROJECT, ended, step } from './user.ts'

/*
 * A base tree of ours, as the cache has it, against what mmdebstrap alone makes of the same packages from
 * the same mirror: without our hooks, options and layers.
 */

const MINUTE_MS = 60 * 1000
t.setTimeout(10 * MINUTE_MS)

const mirror = await startMirror()
const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
/** Trees to compare; in memory, for five of them take a disk a minute to write and to remove. */
const TREES = join(scratch, 'trees')
t.teardown(async () => {
  await mirror.close()
  if (existsSync(TREES)) spawnSync('umount', [TREES])
  rmSync(scratch, { recursive: true, force: true })
})

const GOOD = {
  DISTRO: 'debian',
  REPO_URL: mirror.url,
  CACHE_DIR: join(scratch, 'cache'),
  SOURCE_DATE_EPOCH: '1795000000',
}
const OWN_SET = selectPackages(debian, { agentInit: false, seccomp: true, selinux: false })

/** They add a user, a group that owns a program, alternatives, and a line in a file of another package. */
const EXTRA = ['dnsmasq', 'openssh-client', 'vim-tiny', 'libnss-resolve']

/** apt of mmdebstrap, a user of its own, must reach the keyring. */
const KEYRING = join(scratch, 'keyring.gpg')

t.before(() => {
  cpSync(join(PROJECT, 'rootfs-builder', debian.keyring), KEYRING)
  chmodSync(scratch, 0o755)
  mkdirSync(TREES)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=0755', 'osbuilder-test', TREES])
})

const UNPACK = 'tar --extract --numeric-owner --preserve-permissions --xattrs --xattrs-include=*'

function unpack(tarFile: string, name: string): Promise<Tree> {
  const folder = join(TREES, name)
  mkdirSync(folder)
  execFileSync('bash', ['--norc', '-euc', `${UNPACK} --file "$1" --directory "$2"`, 'bash', tarFile, folder])
  return readWhole(folder)
}

/** Base trees in the cache. */
function stored(): string[] {
  const folder = join(GOOD.CACHE_DIR, 'base')
  return existsSync(folder) ? readdirSync(folder).filter((name) => !name.startsWith('.')) : []
}

/** Build a rootfs, and return the base tree that it put into the cache. */
async function ours(name: string, settings: Readonly<Record<string, string>>): Promise<Tree> {
  const before = stored()
  const workdir = join(scratch, `${name}.workdir`)
  const { status, said } = await step('rootfs', { ...GOOD, WORKDIR: workdir, ...settings })
  if (status !== 0) throw new Error(said)
  const made = stored().filter((key) => !before.includes(key))
  if (made.length !== 1) throw new Error(`${name}: ${String(made.length)} new base trees`)
  return unpack(join(GOOD.CACHE_DIR, 'base', String(made[0]), 'tree.tar'), name)
}

/** The clock of our base trees, which mmdebstrap has to be told. */
function clock(): string {
  const manifest = readFileSync(join(scratch, 'own.workdir', 'debian_rootfs.json'), 'utf8')
  const { inputs } = JSON.parse(manifest) as { inputs: { base: { epochSeconds: number } } }
  return String(inputs.base.epochSeconds)
}

/** What mmdebstrap alone makes of packages. It works in memory, for dpkg waits for the disk after every file. */
async function plain(name: string, packages: readonly string[]): Promise<Tree> {
  const suites = ['bookworm', 'bookworm-updates'].map((suite) => `deb ${mirror.url} ${suite} main`)
  const folder = join(TREES, name)
  mkdirSync(folder)
  const script = [
    'mount -t tmpfs -o mode=0755 plain /mnt',
    'folder="$1"; shift',
    'TMPDIR=/mnt mmdebstrap --quiet --mode=root --format=tar --variant=required "$@" |',
    // tar stops at the archive's end mark; mmdebstrap, whose padding finds a closed pipe, ends its process group.
    `  { ${UNPACK} --directory "$folder"; cat >/dev/null; }`,
  ].join('\n')
  const { status, said } = await ended(
    spawn(
      'setsid',
      [
        ['--wait', 'unshare', '--mount', '--'],
        ['bash', '--norc', '-euo', 'pipefail', '-c', script, 'bash', folder],
        [`--keyring=${KEYRING}`, `--include=${packages.join(',')}`],
        // Its own way to a merged /usr without usrmerge. Source: mmdebstrap(1), --merged-usr
        ['--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr'],
        ['bookworm', '-', ...suites],
      ].flat(),
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { PATH: process.env['PATH'], SOURCE_DATE_EPOCH: clock() },
      },
    ),
  )
  if (status !== 0) throw new Error(said)
  return readWhole(folder)
}

const OPTIONS: Allowed = {
  path: /^etc\/(apt\/apt\.conf|dpkg\/dpkg\.cfg)\.d\/99mmdebstrap$/,
  kinds: ['only ours'],
  why: 'how often a mirror is tried, and which documents stay out; provisioning removes both files',
}

/** KEEP_DOCS=no, which is the default. */
const NO_DOCUMENTS: readonly Allowed[] = [
  {
    path: /^usr\/share\/(man|info|locale|lintian|bug|doc)\/(?!.*\/copyright$|locale\.alias$)/,
    kinds: ['only theirs'],
    why: 'the documents themselves, but never a licence',
  },
  {
    path: /^usr\/share\/(doc\/.*|lintian)$/,
    kinds: ['time'],
    why: 'a folder has the time at which the last document was put into it or taken out',
  },
  {
    path: /^etc\/alternatives\/.*\.[1-8]\.gz$|^etc\/alternatives\/which\.[a-z]+1\.gz$/,
    kinds: ['only theirs'],
    why: 'update-alternatives makes no link to a manual page that is not there',
  },
  {
    path: /^var\/lib\/dpkg\/alternatives\/builtins\.7\.gz$/,
    kinds: ['only theirs'],
    why: 'an alternative with nothing in it but a manual page',
  },
  {
    path: /^var\/lib\/dpkg\/diversions$/,
    kinds: ['content'],
    why: 'dash diverts the manual page of sh where there is one',
    same: (root, path) => programsDiverted(root, path),
  },
  {
    path: /^var\/lib\/dpkg\/diversions-old$/,
    kinds: ['only theirs'],
    why: 'its backup, from before the second diversion; provisioning removes it',
  },
]

/** A second layer over the tree of the first, where plain mmdebstrap installs all packages at once. */
const SECOND_LAYER: readonly Allowed[] = [
  {
    path: /./,
    kinds: ['owner'],
    why: 'ids of packages are given in the order of their installation; by name they are the same',
    same: (root, _, owner) => ownerNames(root, owner),
  },
  {
    path: /^etc\/(passwd|group|shadow|gshadow)$/,
    kinds: ['content'],
    why: 'the order, and the ids that follow from it',
    same: accounts,
  },
  {
    path: /^etc\/(passwd|group|shadow|gshadow)-$/,
    kinds: ['content'],
    why: 'how they were before the last account; provisioning removes these backups',
  },
  {
    path: /^var\/lib\/apt\/extended_states$/,
    kinds: ['content'],
    why: 'the order of paragraphs',
    same: paragraphs,
  },
  {
    path: /^var\/lib\/dpkg\/status-old$/,
    kinds: ['content'],
    why: 'the state before the last package; provisioning removes it',
  },
]

/** Diversions, three lines each, of anything but documents. Source: dpkg-divert(1). */
function programsDiverted(root: string, path: string): string[] {
  const lines = linesOf(root, path)
  const diversions = lines.flatMap((_, index) =>
    index % 3 === 0 ? [lines.slice(index, index + 3).join(' ')] : [],
  )
  return diversions.filter((text) => !text.startsWith('/usr/share/man/')).sort()
}

t.test('every kind of difference is seen, and a rule that explains none is told', async (t) => {
  const [left, right] = ['left', 'right'].map((name) => join(TREES, name)) as [string, string]
  const changes: Readonly<Record<string, (file: string) => void>> = {
    type: (file) => [rmSync(file), mkdirSync(file)],
    mode: (file) => chmodSync(file, 0o4644),
    owner: (file) => chownSync(file, 0, 42),
    target: (file) => [rmSync(file), symlinkSync('there', file)],
    links: (file) => linkSync(file, join(right, 'more')),
    attributes: (file) => execFileSync('setfattr', ['-n', 'trusted.test', '-v', '1', file]),
    content: (file) => writeFileSync(file, 'Content'),
    device: (file) => [rmSync(file), execFileSync('mknod', [file, 'c', '1', '5'])],
    time: () => undefined,
    'only theirs': (file) => [rmSync(join(left, 'only theirs')), file],
    'only ours': (file) => rmSync(file),
  }
  for (const root of [left, right]) {
    mkdirSync(root)
    for (const name of Object.keys(changes)) writeFileSync(join(root, name), 'content')
    rmSync(join(root, 'target'))
    symlinkSync('here', join(root, 'target'))
    rmSync(join(root, 'device'))
    execFileSync('mknod', [join(root, 'device'), 'c', '1', '3'])
  }
  for (const [name, change] of Object.entries(changes)) change(join(right, name))
  for (const root of [left, right]) {
    for (const name of [...readdirSync(root), '']) lutimesSync(join(root, name), 1, 1)
  }
  lutimesSync(join(right, 'time'), 1, 2)
  const [a, b] = [await readWhole(left), await readWhole(right)]
  t.strictSame(
    compareTrees(a, b).map(({ path, kind }) => (path === kind ? kind : `${path}: ${kind}`)),
    [...Object.keys(changes), 'more: only theirs'].sort(),
  )
  const rule: Allowed = { path: /^mode$/, kinds: ['mode'], why: 'a reason' }
  const rules = [rule, { ...rule, kinds: ['owner'] as const, why: 'one that is gone' }]
  t.notOk(unexplained(a, b, rules).includes('mode: mode 644 / 4644'))
  t.ok(unexplained(a, b, rules).includes('nothing differs any more in ^mode$: one that is gone'))
  const strict = { ...rule, same: (root: string) => root }
  t.ok(unexplained(a, b, [strict]).includes('mode: mode 644 / 4644'), 'what must be the same is not')
})

t.test('a base tree is what mmdebstrap alone makes of its packages, but for what is told here', async (t) => {
  const own = await ours('own', {})
  // Two builds at once take little longer than one, which waits for its mirror and for single processes.
  const [bare, documented] = await Promise.all([
    plain('plain', OWN_SET),
    ours('documented', { KEEP_DOCS: 'yes' }),
  ])
  t.ok(own.entries.size > 4000, `${String(own.entries.size)} entries`)
  t.strictSame(unexplained(own, bare, [OPTIONS, ...NO_DOCUMENTS]), [])
  t.strictSame(unexplained(documented, bare, [OPTIONS]), [], 'KEEP_DOCS=yes: nothing is missing at all')
})

t.test('packages in a layer of their own are installed as if from the start', async (t) => {
  const settings = { EXTRA_PKGS: EXTRA.join(' ') }
  const [bare, layered] = await Promise.all([
    plain('plain-extra', [...OWN_SET, ...EXTRA]),
    ours('extra', settings),
  ])
  t.ok(layered.entries.has('usr/bin/ssh-agent'))
  t.strictSame(unexplained(layered, bare, [OPTIONS, ...NO_DOCUMENTS, ...SECOND_LAYER]), [])
})
