// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { sha256 } from '../../scripts/digest.ts'
import type { Lock } from '../../scripts/package-lock/package-lock.ts'
import { CENTOS, CLEARLINUX } from '../mirrors/rpm-distros.ts'
import { startRpmMirror } from '../mirrors/rpm.ts'
import type { RpmMirror } from '../mirrors/rpm.ts'
import { serve } from '../mirrors/server.ts'
import type { Mirror } from '../mirrors/server.ts'
import { treeDigest } from './tree-digest.ts'
import { makeAsync, openScratch } from './user.ts'

t.setTimeout(15 * 60 * 1000)

const { scratch, fresh } = openScratch(t)

/** A mirror that has moved on to a new index when it is told to; older packages are still there. */
async function movingMirror(
  before: RpmMirror,
  after: RpmMirror,
): Promise<Mirror & { readonly moveOn: () => void }> {
  let order = [before]
  const mirror = await serve('centos', async (path) => {
    for (const { url } of order) {
      const answer = await fetch(`${url}/${path}`)
      if (answer.ok) return Buffer.from(await answer.arrayBuffer())
    }
    return undefined
  })
  return {
    ...mirror,
    moveOn: () => {
      order = [after, before]
    },
  }
}

const COMMON = { AGENT_INIT: 'yes', SOURCE_DATE_EPOCH: '1795000000', REFRESH: 'always' }

t.test('centos: a locked guest is the same after the mirror moved on', async (t) => {
  const [old, newer] = [await startRpmMirror(CENTOS), await startRpmMirror({ ...CENTOS, release: '2.el9' })]
  const mirror = await movingMirror(old, newer)
  t.teardown(() => Promise.all([old, newer, mirror].map((one) => one.close())))
  const keyring = join(scratch, 'both.gpg')
  writeFileSync(keyring, Buffer.concat([old, newer].map((one) => readFileSync(one.keyring))))
  const lockFile = join(scratch, 'centos.lock')
  const settings = {
    ...{ ...COMMON, DISTRO: 'centos', REPO_URL: mirror.url, REPO_KEYRING: keyring, LOCK_FILE: lockFile },
    VENDOR_DIR: join(scratch, 'none'),
  }
  const first = fresh()
  const plain = await makeAsync('rootfs', { ...settings, ...first, LOCK_FILE: '/dev/null' })
  t.equal(plain.status, 0, plain.said)
  const digest = treeDigest(join(first.WORKDIR, 'centos_rootfs'))
  const locked = await makeAsync('lock', { ...settings, ...first })
  t.equal(locked.status, 0, locked.said)
  const text = readFileSync(lockFile, 'utf8')
  const guest = (JSON.parse(text) as Lock).guests[0]
  t.ok(guest !== undefined && guest.packages.length > 8)
  for (const { name, version, signer = '', sizeBytes } of guest?.packages ?? []) {
    t.ok(/^[0-9a-f]{16}$/.test(signer) && sizeBytes > 0 && version === '9-1.el9', name)
  }

  mirror.moveOn()
  const asked = mirror.asked.length
  const second = fresh()
  const built = await makeAsync('rootfs', { ...settings, ...second })
  t.equal(built.status, 0, built.said)
  t.equal(treeDigest(join(second.WORKDIR, 'centos_rootfs')), digest, 'and a lock changes no byte')
  t.notOk(mirror.asked.slice(asked).some((path) => path.includes('repodata')))
  t.match((await makeAsync('rootfs', { ...settings, ...second })).stdout, 'unchanged')

  const shown = await makeAsync('lock-update', { ...settings, ...first })
  t.equal(shown.status, 0, shown.said)
  t.match(shown.stdout, /LOCK +libseccomp +9-1.el9 → 9-2.el9/)
  t.equal(readFileSync(lockFile, 'utf8'), text, 'nothing was written')
  mirror.fault(/libseccomp-9-1/, { kind: 'status', status: 404 })
  const gone = await makeAsync('rootfs', { ...settings, ...fresh() })
  mirror.heal()
  t.not(gone.status, 0)
  t.match(gone.said, /libseccomp 9-1.el9: is named in centos.lock, and cannot be had[^]*make lock-update/)
  const misspelt = await makeAsync('lock', { ...settings, ...first, EXTRA_PKGS: 'chorny' })
  t.match(misspelt.said, /no package chorny in the repositories[^]*near names: chrony/)
  const host = await makeAsync('lock', { ...settings, ...first, DISTRO_REPO: 'yes' })
  t.match(host.said, "DISTRO_REPO=yes: what this host's repositories have is not locked")
})

for (const [distro, description, victim] of [
  ['centos', CENTOS, 'libseccomp'],
  ['clearlinux', CLEARLINUX, 'filesystem'],
] as const) {
  t.test(`${distro}: built offline, and what is changed is refused`, async (t) => {
    const mirror = await startRpmMirror(description)
    t.teardown(() => mirror.close())
    const lockFile = join(scratch, `${distro}-offline.lock`)
    const VENDOR_DIR = join(scratch, `vendor-${distro}`)
    const settings = {
      ...{ ...COMMON, DISTRO: distro, REPO_URL: mirror.url, REPO_KEYRING: mirror.keyring },
      ...{ LOCK_FILE: lockFile, VENDOR_DIR },
    }
    const first = fresh()
    const locked = await makeAsync('lock', { ...settings, ...first })
    t.equal(locked.status, 0, locked.said)
    const vendored = await makeAsync('vendor', { ...settings, ...first })
    t.equal(vendored.status, 0, vendored.said)
    const text = readFileSync(lockFile, 'utf8')
    const guest = (JSON.parse(text) as Lock).guests[0]
    const item = guest?.packages.find(({ name }) => name === victim)
    if (guest === undefined || item === undefined) throw new Error(`no ${victim} in the lock`)

    const second = fresh()
    const offline = await makeAsync('rootfs', { ...settings, ...second, OFFLINE: 'yes' })
    t.equal(offline.status, 0, offline.said)
    t.match(offline.stdout, `${String(guest.packages.length)} packages`)

    const refused = async (name: string, found: RegExp, more: Readonly<Record<string, string>> = {}) => {
      const workdir = fresh()
      const built = await makeAsync('rootfs', { ...settings, ...workdir, OFFLINE: 'yes', ...more })
      t.not(built.status, 0, name)
      t.match(built.said, found, name)
      t.equal(built.said.match(/ERROR/g)?.length, 1, `${name}: one error`)
      t.notOk(existsSync(join(workdir.WORKDIR, `${distro}_rootfs`)), name)
    }
    const blob = join(VENDOR_DIR, 'blobs/sha256', item.sha256)
    const content = readFileSync(blob)
    await refused("another's key", /not signed by/, { REPO_KEYRING: mirror.otherKeyring })

    writeFileSync(lockFile, text.replaceAll(item.sha256, sha256('another')))
    await refused('forged', new RegExp(`disagrees with the signed index [^]*${victim} ${item.version}`))
    if (item.signer !== undefined) {
      writeFileSync(lockFile, text.replaceAll(item.signer, '0123456789abcdef'))
      await refused('signer', /signed by another key than centos-offline.lock names/)
    } else {
      const signer = guest.indexes[0]?.signers[0] ?? ''
      t.match(signer, /^[0-9A-F]{40}$/)
      writeFileSync(lockFile, text.replaceAll(signer, '0'.repeat(40)))
      await refused('signer', /signed by another key than clearlinux-offline.lock names/)
    }
    const rows = text.split('\n').filter((line) => !line.includes(`"name": "${victim}"`))
    writeFileSync(lockFile, rows.join('\n'))
    await refused('fewer', /lock: its packages do not fit to each other[^]*make lock-update/)
    writeFileSync(lockFile, text)

    writeFileSync(blob, Buffer.concat([content, Buffer.from('x')]))
    await refused('tampered', new RegExp(`${victim} .*: the file in VENDOR_DIR was changed`))
  })
}

t.test('centos: an unsigned index that names other lists to us than to dnf is not locked', async (t) => {
  const mirror = await startRpmMirror(CENTOS)
  t.teardown(() => mirror.close())
  const lockFile = join(scratch, 'forged.lock')
  const settings = { ...COMMON, DISTRO: 'centos', REPO_URL: mirror.url, REPO_KEYRING: mirror.keyring }
  const secret = join(scratch, 'secret')
  writeFileSync(secret, 'of this host')
  for (const [name, path] of [
    ['outside', `${'../'.repeat(20)}${secret.slice(1)}`],
    ['absolute', secret],
    ['digest', undefined],
  ] as const) {
    mirror.fault(/BaseOS.*repomd\.xml$/, {
      kind: 'change',
      to: (body) => {
        const text = body.toString()
        // A comment to dnf, for which the index is a right one.
        const [own = ''] = /<data type="primary">[^]*?<\/data>/.exec(text) ?? []
        const digest = own.replace(/(<checksum[^>]*>)[0-9a-f]+/, `$1${sha256('of this host')}`)
        const forged = path === undefined ? digest : digest.replace(/href="[^"]*"/, `href="${path}"`)
        return Buffer.from(text.replace(own, `<!-- ${forged} -->${own}`))
      },
    })
    const locked = await makeAsync('lock', { ...settings, ...fresh(), LOCK_FILE: lockFile })
    mirror.heal()
    t.not(locked.status, 0, name)
    t.match(locked.said, /has not the list of packages that its index names[^]*try: /, name)
    t.notOk(existsSync(lockFile), name)
  }
})
