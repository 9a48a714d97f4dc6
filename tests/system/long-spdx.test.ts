// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { Ajv } from 'ajv'
import addFormats from 'ajv-formats'
import t from 'tap'

import { sha256 } from '../../scripts/digest.ts'
import { DESCRIPTIONS } from '../../scripts/manifest.ts'
import { smallAlpine, startRepository } from '../mirrors/alpine.ts'
import { startMirror } from '../mirrors/apt.ts'
import { CENTOS } from '../mirrors/rpm-distros.ts'
import { startRpmMirror } from '../mirrors/rpm.ts'
import { doubtsOf } from '../proof/implies.ts'
import type { Rules } from '../proof/implies.ts'
import { SHOWN_OF, SPDX, SPDX_SCHEMA_SHA256 } from '../proof/schemas.ts'
import { makeAsync } from './user.ts'

t.setTimeout(15 * 60 * 1000)

/** SPDX's own schema, read from outside of this repository: `SPDX_SPEC=` names a checkout of spdx/spdx-spec. */
function publishedSchema(): Rules {
  const folder = process.env['SPDX_SPEC'] ?? ''
  const file = join(folder, 'schemas/spdx-schema.json')
  let text = ''
  try {
    text = folder === '' ? '' : readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  if (sha256(text) === SPDX_SCHEMA_SHA256) return JSON.parse(text) as Rules
  throw new Error(
    `SPDX_SPEC=${folder}: expected a checkout of spdx/spdx-spec at tag v2.3, with schemas/spdx-schema.json of ` +
      `sha256 ${SPDX_SCHEMA_SHA256}; type SPDX_SPEC=folder make test-long`,
  )
}

t.test('the rules that every test checks SPDX by imply the published schema', (t) => {
  t.strictSame(doubtsOf(SPDX, publishedSchema()), [])
  t.equal(sha256(JSON.stringify(SPDX)), SHOWN_OF, 'SHOWN_OF in tests/proof/schemas.ts')
  t.end()
})

t.test('alpine, debian and centos: rootfs, image and initrd are valid by the published schema', async (t) => {
  const ajv = new Ajv({ strict: false, allErrors: true, logger: false })
  addFormats.default(ajv)
  const validate = ajv.compile(publishedSchema())
  const [alpine, debian, centos] = [
    await startRepository(),
    await startMirror(),
    await startRpmMirror(CENTOS),
  ]
  t.teardown(() => Promise.all([alpine.close(), debian.close(), centos.close()]))
  await alpine.publish(await smallAlpine())
  const rows = [
    { DISTRO: 'alpine', REPO_URL: alpine.url, REPO_KEYRING: alpine.keyring },
    { DISTRO: 'debian', REPO_URL: debian.url },
    { DISTRO: 'centos', REPO_URL: centos.url, REPO_KEYRING: centos.keyring },
  ]
  for (const row of rows) {
    const settings = {
      SOURCE_DATE_EPOCH: '1795000000',
      INITRD_COMPRESSION: 'zstd',
      ...row,
      WORKDIR: t.testdir(),
    }
    for (const target of ['all', 'sbom']) {
      const { status, said } = await makeAsync(target, settings)
      t.equal(status, 0, said)
    }
    for (const output of [`${row.DISTRO}_rootfs`, 'kata-containers.img', 'kata-containers-initrd.img']) {
      const file = join(settings.WORKDIR, `${output}${DESCRIPTIONS.spdx}`)
      const read = (): Record<string, unknown> =>
        JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>
      t.ok(validate(read()), `${file}: ${ajv.errorsText(validate.errors)}`)
      const broken = read()
      delete broken['dataLicense']
      t.notOk(validate(broken), 'and not without its licence')
    }
  }
})
