// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

import t from 'tap'

import { NORMAL_USER, PROJECT, asNormalUser, ended, step } from './user.ts'

t.setTimeout(20 * 60 * 1000)

const scratch = mkdtempSync(join(tmpdir(), 'osbuilder-test-'))
execFileSync('chmod', ['755', scratch])
t.teardown(() => {
  rmSync(scratch, { recursive: true, force: true })
})

/** dracut makes a whole rootfs in a second. */
const DRACUT = { BUILD_METHOD: 'dracut', AGENT_INIT: 'yes', SOURCE_DATE_EPOCH: '1795000000' }

/** Start what follows in mounts of its own, after some lines of bash; `$1` is `argument`. */
function prepared(lines: string, argument: string): string[] {
  return ['unshare', '--mount', 'bash', '--norc', '-euc', `${lines}\nexec "\${@:2}"`, 'bash', argument]
}

/** Start what follows as root of a user namespace with the same ids, in which none may be made. */
const WITHOUT_NAMESPACES = `
unshare --user sleep 60 & holder=$!
trap 'kill "$holder"' EXIT
until [ "$(readlink "/proc/$holder/ns/user")" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.05; done
for map in uid_map gid_map; do echo '0 0 4294967295' >"/proc/$holder/$map"; done
nsenter --target "$holder" --user --setuid 0 --setgid 0 -- bash --norc -euc \
  'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"' bash "$@"
`

t.test('a host that forbids it is told exactly what, with the command that grants it', (t) => {
  const home = join(scratch, 'forbidden')
  const workdir = join(home, 'work')
  const run = asNormalUser(home, { ...DRACUT, WORKDIR: workdir })
  const empty = join(scratch, 'nobody')
  writeFileSync(empty, 'someone-else:100000:65536\n')
  const small = join(scratch, 'small')
  writeFileSync(small, `${NORMAL_USER}:100000:1000\n`)
  const lame = join(scratch, 'newuidmap')
  cpSync('/usr/bin/newuidmap', lame)
  execFileSync('chmod', ['0755', lame])
  const hidden = join(scratch, 'hidden')
  mkdirSync(hidden)
  for (const name of ['newuidmap', 'newgidmap']) execFileSync('mknod', [join(hidden, name), 'c', '0', '0'])
  const cases: readonly [string, string[], number, RegExp][] = [
    [
      'no range',
      prepared('mount --bind "$1" /etc/subuid; mount --bind "$1" /etc/subgid', empty),
      77,
      /\/etc\/subuid and \/etc\/subgid: user osbuilder-test has no range[^]*try: sudo usermod --add-subuids 165536-231071 --add-subgids 165536-231071 osbuilder-test\n/,
    ],
    [
      'a range that is too small',
      prepared('mount --bind "$1" /etc/subuid', small),
      77,
      /\/etc\/subuid: user osbuilder-test has no range of 65535 ids[^]*too small/,
    ],
    [
      'no newuidmap',
      prepared('mount -t overlay overlay -o "lowerdir=$1:/usr/bin" /usr/bin', hidden),
      69,
      /host tools are missing: newuidmap, newgidmap[^]*package uidmap[^]*try: sudo make setup/,
    ],
    [
      'a newuidmap without rights',
      prepared('mount --bind "$1" /usr/bin/newuidmap', lame),
      77,
      /\/usr\/bin\/newuidmap: has no right[^]*try: sudo chmod u\+s \/usr\/bin\/newuidmap/,
    ],
    [
      'no namespaces at all',
      // The switch is one of each user namespace: the host's own stays as it is.
      ['bash', '--norc', '-euc', WITHOUT_NAMESPACES, 'bash'],
      77,
      /user\.max_user_namespaces is 0[^]*try: sudo sysctl user\.max_user_namespaces=/,
    ],
  ]
  for (const [what, within, wanted, reason] of cases) {
    const { status, said } = run('rootfs', within)
    t.equal(status, wanted, `${what}: ${said}`)
    t.match(said, reason, what)
    t.notMatch(said, 'this is a bug')
    t.notOk(existsSync(workdir), 'nothing is made')
  }
  t.equal(run('rootfs').status, 0, 'and without all that it builds')
  t.end()
})

t.test('what a killed build of a user leaves stops nothing, and clean removes it', async (t) => {
  const home = join(scratch, 'killed')
  const workdir = join(home, 'work')
  const run = asNormalUser(home, { ...DRACUT, AGENT_INIT: 'no', WORKDIR: workdir })
  t.equal(run('rootfs').status, 0)
  // As it looks when the power went: a half-made tree that belongs to ids of the user's range.
  const left = join(workdir, '.dracut_rootfs.tmp-999999999-1')
  cpSync(join(workdir, 'dracut_rootfs'), left, { recursive: true, verbatimSymlinks: true })
  execFileSync('chown', ['-R', '--reference', join(workdir, 'dracut_rootfs'), left])
  const range = execFileSync('grep', [`^${NORMAL_USER}:`, '/etc/subuid'], { encoding: 'utf8' }).split(':')[1]
  execFileSync('chown', ['-hR', `${String(Number(range) + 100)}`, join(left, 'usr')])
  const booted = run('boot')
  t.match(booted.said, 'no image or initrd to boot', 'a step without owners passes it over')
  t.equal(run('initrd').status, 0)
  t.notOk(existsSync(left), 'one with owners removes it')
  t.equal(run('clean').status, 0)
  t.strictSame(
    readdirSync(workdir).filter((name) => !name.startsWith('.')),
    ['cache', 'logs'],
  )
})

t.test('what root built a user can neither build over nor clean, and is told so', async (t) => {
  const home = join(scratch, 'mixed')
  const workdir = join(home, 'work')
  const run = asNormalUser(home, { ...DRACUT, WORKDIR: workdir })
  // Other settings, so that there is something to build.
  t.equal((await step('rootfs', { ...DRACUT, SECCOMP: 'no', WORKDIR: workdir })).status, 0)
  for (const name of ['rootfs', 'clean'] as const) {
    const { status, said } = run(name)
    t.equal(status, 77, said)
    t.notMatch(said, 'this is a bug')
    t.match(said, 'try:')
  }
  t.ok(existsSync(join(workdir, 'dracut_rootfs', 'sbin', 'init')))
})

/**
 * Run what follows on a copy-on-write view of the whole host, then list what was written to it.
 *
 * `$1` is an empty folder, `$2` the one folder that is written through. A file that came and went leaves
 * its folder in the list. Other programs of the machine are not seen.
 */
const WATCHED = `
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
for place in proc sys dev; do mount --rbind "/$place" "$1/root/$place"; done
mount --bind "$2" "$1/root$2"
unshare --mount bash --norc -euc 'cd "$1"; pivot_root . .; umount --lazy .; exec "\${@:2}"' bash "$1/root" "\${@:3}" >&2
cd "$1/upper"
find . -mindepth 1 -printf '%y %p\\n'
`

/** What a command wrote outside of `workdir`, in the form `TYPE PATH`. */
async function written(workdir: string, line: string, argv: readonly string[] = []) {
  const view = join(scratch, 'view')
  mkdirSync(view, { recursive: true })
  const watched = ['--mount', 'bash', '--norc', '-euc', WATCHED, 'bash', view, workdir]
  const child = spawn('unshare', [...watched, ...argv, 'bash', '--norc', '-euc', line], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`, HOME: '/root', ...proxies() },
  })
  const { status, stdout, said } = await ended(child)
  t.equal(status, 0, said)
  return stdout.split('\n').filter((row) => row !== '')
}

/** The mirror may be reached through a proxy only. */
function proxies(): Record<string, string> {
  const names = ['http_proxy', 'https_proxy', 'no_proxy']
  return Object.fromEntries(
    names.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
  )
}

t.test('a build changes no path outside of WORKDIR', async (t) => {
  const workdir = join(scratch, 'watched')
  mkdirSync(workdir)
  t.strictSame(
    await written(workdir, 'touch /usr/osbuilder-x; rm /usr/osbuilder-x'),
    ['d ./usr'],
    'the watch sees',
  )
  const common = `-C '${PROJECT}' WORKDIR='${workdir}' INITRD_COMPRESSION=zstd`
  for (const targets of [
    'DISTRO=debian AGENT_INIT=yes image initrd',
    'BUILD_METHOD=dracut image initrd',
    'DISTRO=debian clean',
  ]) {
    t.strictSame(await written(workdir, `make ${common} ${targets}`), [], targets)
  }
  t.ok(existsSync(join(workdir, 'kata-containers.img')) === false, 'and what it made is removed by clean')
  const home = join(scratch, 'watched-home')
  mkdirSync(home)
  const mine = join(home, 'work')
  asNormalUser(home, { ...DRACUT, AGENT_INIT: 'no', WORKDIR: mine })
  const ids = ['setpriv', '--reuid', NORMAL_USER, '--regid', NORMAL_USER, '--init-groups']
  mkdirSync(mine)
  execFileSync('chown', [NORMAL_USER, mine])
  const rows = await written(mine, `bash --norc '${home}/run' rootfs-builder/rootfs.js`, ids)
  t.strictSame(rows, [], 'as a normal user')
  t.ok(existsSync(join(mine, 'dracut_rootfs')))
  t.equal(spawnSync('pgrep', ['-f', `${scratch}/view`]).status, 1, 'and no process is left')
})
