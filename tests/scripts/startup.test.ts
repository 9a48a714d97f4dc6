// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import t from 'tap'

import { PROJECT } from '../system/user.ts'
import { moduleUrl } from './child.ts'

/** Told the address of every module that is loaded, on stderr. */
const HOOK = `export const load = (url, context, next) => {
  process._rawDebug('loaded ' + url)
  return next(url, context)
}`
const REGISTER = `import { register } from 'node:module'
register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(HOOK)}`)})`

t.test('no step loads at its start what only some builds need', (t) => {
  for (const step of ['rootfs-builder/rootfs', 'image-builder/image', 'initrd-builder/initrd']) {
    const { status, stderr } = spawnSync(
      process.execPath,
      [
        `--import=data:text/javascript,${encodeURIComponent(REGISTER)}`,
        join(PROJECT, 'build/bundle', `${step}.js`),
        '-h',
      ],
      { encoding: 'utf8' },
    )
    t.equal(status, 0, step)
    const loaded = stderr.split('\n').filter((line) => line.startsWith('loaded file:'))
    t.ok(loaded.length > 3 && loaded.length < 25, `${step}: ${String(loaded.length)} files`)
    const texts = loaded.map((line) => readFileSync(fileURLToPath(line.slice('loaded '.length)), 'utf8'))
    // esbuild names the file that what follows was in.
    const inside = texts.flatMap((text) => [...text.matchAll(/^\/\/ (?:.*\/)?node_modules\/([\w-]+)\//gm)])
    const packages = new Set(inside.map((match) => match[1]))
    t.ok(packages.has('minimist'), 'what is there is seen')
    // They take 20 to 100 ms each, a third of an unchanged build.
    for (const name of ['execa', 'tar-stream', 'undici', 'yaml', 'zx']) t.notOk(packages.has(name), name)
    t.strictSame(
      loaded.filter((line) => /\/node_modules\/(?!cpio-stream\/)/.test(line)),
      [],
    )
  }
  t.end()
})

t.test('every file of the bundle can be loaded: what goes before it has names of its own', (t) => {
  const script = `
    import { readFileSync } from 'node:fs'
    import { SourceTextModule } from 'node:vm'
    import { runtimeFiles } from '${moduleUrl('scripts/runtime-files.js')}'
    const files = runtimeFiles().filter((path) => /^build\\/bundle\\/.*\\.js$/.test(path))
    for (const path of files) new SourceTextModule(readFileSync(path, 'utf8'), { identifier: path })
    console.log(files.length)`
  const flags = ['--experimental-vm-modules', '--no-warnings', '--input-type=module']
  const { status, stdout, stderr } = spawnSync(process.execPath, [...flags, '-e', script], {
    cwd: PROJECT,
    encoding: 'utf8',
  })
  t.equal(status, 0, stderr)
  t.ok(Number(stdout) > 20)
  t.end()
})
