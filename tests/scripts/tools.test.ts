// SPDX-License-Identifier: Apache-2.0
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { toolVersion } from '../../scripts/tools.ts'

t.test('tools that are asked at once are each asked once, and all answers are remembered', async (t) => {
  const folder = t.testdir({ bin: {} })
  const path = process.env['PATH'] ?? ''
  process.env['PATH'] = `${join(folder, 'bin')}:${path}`
  t.teardown(() => {
    process.env['PATH'] = path
  })
  for (const tool of ['first-tool', 'second-tool']) {
    const file = join(folder, 'bin', tool)
    writeFileSync(
      file,
      `#!/bin/sh\necho ${tool} >> '${join(folder, 'asked')}'\necho ${tool} 1.0\necho more\n`,
    )
    chmodSync(file, 0o755)
  }
  const cacheDir = join(folder, 'cache')
  const ask = (): Promise<string[]> =>
    Promise.all(['first-tool', 'second-tool', 'first-tool'].map((tool) => toolVersion(tool, cacheDir)))
  t.strictSame(await ask(), ['first-tool 1.0', 'second-tool 1.0', 'first-tool 1.0'])
  t.strictSame(await ask(), ['first-tool 1.0', 'second-tool 1.0', 'first-tool 1.0'])
  const asked = readFileSync(join(folder, 'asked'), 'utf8').trim().split('\n').sort()
  t.strictSame(asked, ['first-tool', 'second-tool'])
  const kept = JSON.parse(readFileSync(join(cacheDir, 'tools.json'), 'utf8')) as Record<string, string>
  t.strictSame(Object.values(kept).sort(), ['first-tool 1.0', 'second-tool 1.0'])
  t.equal(await toolVersion('no-such-tool', cacheDir), 'missing')
})
