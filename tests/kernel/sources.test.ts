// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import t from 'tap'
import type { Test } from 'tap'

import { resolveSource } from '../../kernel/sources/resolve.ts'
import type { SourceRequest } from '../../kernel/sources/source.ts'
import { prepareTree } from '../../kernel/tree.ts'
import type { TreeRequest } from '../../kernel/tree.ts'
import { sha256 } from '../../scripts/digest.ts'
import { parseSettings } from '../../scripts/settings.ts'
import { openWorkspace } from '../../scripts/workspace.ts'
import { serveFiles } from '../mirrors/files.ts'
import type { FileServer } from '../mirrors/files.ts'

for (const name of ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY']) delete process.env[name]

const VERSION = '9.8.7'
const NAME = `linux-${VERSION}.tar.xz`

/** Sources of a kernel, as far as they are looked at. */
const TREE = {
  Makefile: 'VERSION = 9\nPATCHLEVEL = 8\nSUBLEVEL = 7\nEXTRAVERSION =\n',
  Kconfig: '',
  arch: { keep: '' },
  init: { 'main.c': 'one\ntwo\nthree\n' },
}

/** A tarball as kernel.org has them. */
function tarball(t: Test): Buffer {
  const folder = t.testdir({ [`linux-${VERSION}`]: TREE })
  execFileSync('tar', ['-cJf', join(folder, NAME), '-C', folder, `linux-${VERSION}`])
  return readFileSync(join(folder, NAME))
}

/** A new key, and what it says of the text, clear-signed. */
function sign(t: Test, text: string): { signed: string; keyring: string } {
  // Short: gpg makes a socket in it, whose path is limited.
  const home = mkdtempSync(join(tmpdir(), 'gnupg-'))
  t.teardown(() => {
    rmSync(home, { recursive: true, force: true })
  })
  mkdirSync(t.testdirName, { recursive: true })
  const gpg = (argv: readonly string[], input: string = ''): Buffer =>
    execFileSync('gpg', ['--homedir', home, '--batch', '--quiet', ...argv], {
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(input === '' ? {} : { input }),
    })
  gpg(['--passphrase', '', '--quick-generate-key', 'Signer <signer@example.org>', 'ed25519', 'sign', 'never'])
  const keyring = join(t.testdirName, 'keyring.gpg')
  writeFileSync(keyring, gpg(['--export']))
  const signed = gpg(['--clear-sign'], text).toString()
  execFileSync('gpgconf', ['--homedir', home, '--kill', 'all'])
  return { signed, keyring }
}

function requestOf(t: Test, raw: Readonly<Record<string, string>>): SourceRequest {
  const settings = parseSettings({ ...raw, WORKDIR: join(t.testdirName, 'work') })
  const workspace = openWorkspace(settings)
  return { settings, workspace, logFile: join(workspace.logDir, 'source.log') }
}

async function treeOf(request: SourceRequest, patchesDir: string = ''): Promise<string> {
  const source = await resolveSource(request)
  const { workspace, logFile } = request
  const tree: TreeRequest = { workspace, source, variants: ['debug'], patchesDir, logFile }
  return (await prepareTree(tree)).folder
}

function fromServer(t: Test, server: FileServer, keyring: string): SourceRequest {
  return requestOf(t, {
    KERNEL_SOURCE: 'kernel.org',
    KERNEL_VERSION: VERSION,
    KERNEL_MIRROR: server.url,
    KERNEL_KEYRING: keyring,
  })
}

t.test('a tarball of kernel.org is taken when its signed digest fits', async (t) => {
  const content = tarball(t)
  const { signed, keyring } = sign(t, `${sha256(content)}  ${NAME}\n`)
  const server = await serveFiles(t, { '/v9.x/sha256sums.asc': signed, [`/v9.x/${NAME}`]: content })
  const folder = await treeOf(fromServer(t, server, keyring))
  t.equal(readFileSync(join(folder, 'init/main.c'), 'utf8'), 'one\ntwo\nthree\n')
})

t.test('a digest that does not fit, a changed list and a list of another signer are refused', async (t) => {
  const content = tarball(t)
  const { signed, keyring } = sign(t, `${sha256('another')}  ${NAME}\n`)
  const files: Record<string, Buffer | string> = {
    '/v9.x/sha256sums.asc': signed,
    [`/v9.x/${NAME}`]: content,
  }
  const server = await serveFiles(t, files)
  const request = fromServer(t, server, keyring)
  await t.rejects(treeOf(request), { code: 'E_DIGEST', message: `${NAME}: is not the expected file` })
  t.notOk(existsSync(join(request.workspace.cacheDir, 'kernel', NAME)))
  t.notOk(existsSync(join(request.workspace.workDir, 'linux')))

  files['/v9.x/sha256sums.asc'] = signed.replace(sha256('another'), sha256(content))
  await t.rejects(treeOf(request), { code: 'E_SIGNATURE', because: [/does not match its signature/] })

  const other = fromServer(t, server, join(import.meta.dirname, '../../../kernel/keys/kernel.org.gpg'))
  await t.rejects(treeOf(other), { code: 'E_SIGNATURE', because: [/a key that the keyring does not hold/] })
})

t.test('a version that is not listed, and one that is pinned otherwise, are told', async (t) => {
  const { signed, keyring } = sign(t, `${sha256('x')}  linux-6.6.74.tar.xz\n`)
  const server = await serveFiles(t, { '/v9.x/sha256sums.asc': signed, '/v6.x/sha256sums.asc': signed })
  await t.rejects(treeOf(fromServer(t, server, keyring)), {
    code: 'E_INPUT',
    message: /KERNEL_VERSION=9\.8\.7: /,
  })
  const pinned = requestOf(t, {
    KERNEL_SOURCE: 'kernel.org',
    KERNEL_VERSION: '6.6.74',
    KERNEL_MIRROR: server.url,
    KERNEL_KEYRING: keyring,
  })
  await t.rejects(treeOf(pinned), { code: 'E_DIGEST', because: [/pinned: f15e2b1a/, /signed: /] })
})

const PATCH = '--- a/init/main.c\n+++ b/init/main.c\n@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n'

t.test(
  'patches of the series come before those of the variant; the tree is kept while they are the same',
  async (t) => {
    const root = t.testdir({
      tree: TREE,
      patches: {
        '9.8': { 'a.patch': PATCH, debug: { 'b.patch': PATCH.replace('two', 'TWO').replace('+TWO', '+2') } },
        '9.7': { 'c.patch': 'not read' },
      },
    })
    const request = requestOf(t, { KERNEL_SOURCE: 'local', KERNEL_TREE: join(root, 'tree') })
    const folder = await treeOf(request, join(root, 'patches'))
    t.equal(readFileSync(join(folder, 'init/main.c'), 'utf8'), 'one\n2\nthree\n')
    t.equal(
      readFileSync(join(root, 'tree/init/main.c'), 'utf8'),
      'one\ntwo\nthree\n',
      "the user's is only read",
    )
    writeFileSync(join(folder, 'mark'), '')
    await treeOf(request, join(root, 'patches'))
    t.ok(existsSync(join(folder, 'mark')), 'the same tree')
    await treeOf(request)
    t.notOk(existsSync(join(folder, 'mark')), 'a fresh tree without patches')
    t.equal(readFileSync(join(folder, 'init/main.c'), 'utf8'), 'one\ntwo\nthree\n')
  },
)

t.test('a patch that does not apply is named, and nothing half-patched remains', async (t) => {
  const root = t.testdir({ tree: TREE, patches: { '9.8': { 'bad.patch': PATCH.replace('two', 'four') } } })
  const request = requestOf(t, { KERNEL_SOURCE: 'local', KERNEL_TREE: join(root, 'tree') })
  await t.rejects(treeOf(request, join(root, 'patches')), {
    code: 'E_INPUT',
    message: '9.8/bad.patch: the patch does not apply to Linux 9.8.7',
    hint: /bad\.patch/,
  })
  t.notOk(existsSync(join(request.workspace.workDir, 'linux')))
})

t.test('a commit of a git repository is fetched alone; what holds no kernel is refused', async (t) => {
  const root = t.testdir({ repo: TREE, empty: {} })
  const git = (...argv: readonly string[]): void => {
    execFileSync('git', ['-C', join(root, 'repo'), '-c', 'user.name=a', '-c', 'user.email=a@b', ...argv])
  }
  git('init', '--quiet')
  git('add', '.')
  git('commit', '--quiet', '-m', 'one')
  git('tag', 'v9.8.7')
  const asked = { KERNEL_SOURCE: 'git', KERNEL_REPO: `file://${join(root, 'repo')}` }
  const folder = await treeOf(requestOf(t, { ...asked, KERNEL_TAG: 'v9.8.7' }))
  t.ok(existsSync(join(folder, 'init/main.c')))
  t.notOk(existsSync(join(folder, '.git')))
  await t.rejects(treeOf(requestOf(t, { ...asked, KERNEL_TAG: 'v1' })), {
    code: 'E_INPUT',
    message: /^KERNEL_TAG=v1: /,
  })
  const empty = requestOf(t, { KERNEL_SOURCE: 'local', KERNEL_TREE: join(root, 'empty') })
  await t.rejects(treeOf(empty), { code: 'E_INPUT', message: /holds no kernel sources/ })
})
