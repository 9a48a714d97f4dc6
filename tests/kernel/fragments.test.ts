// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { parseExceptions } from '../../kernel/exceptions.ts'
import { parseFragment } from '../../kernel/fragment.ts'
import { allFragments, readAsking, topicOf, variantNames } from '../../kernel/fragments.ts'
import { ARCH_NAMES } from '../../scripts/arch.ts'
import { PROJECT_ROOT } from '../../scripts/paths.ts'

const EXCEPTIONS = 'kernel/exceptions.list'

t.test('every symbol of ours has its reason above it', async (t) => {
  const fragments = allFragments()
  t.ok(fragments.length > 30)
  for (const { file, asked } of fragments) {
    t.ok(asked.length > 0, `${file} asks for something`)
    for (const { place, name, reason } of asked) t.match(reason, /\w{3}/, `${place}: ${name}`)
  }
})

t.test('within one configuration a symbol is asked for once, or with one value', async (t) => {
  for (const arch of ARCH_NAMES) {
    const seen = new Map<string, string>()
    for (const { asked } of readAsking(arch, [], '').fragments) {
      for (const { name, value, place } of asked) {
        t.ok([undefined, value].includes(seen.get(name)), `${arch}: ${place}: ${name}`)
        seen.set(name, value)
      }
    }
  }
})

t.test('every exception is about a symbol that a fragment asks for', async (t) => {
  const asked = new Set(allFragments().flatMap((fragment) => fragment.asked.map(({ name }) => name)))
  const rows = parseExceptions(readFileSync(join(PROJECT_ROOT, EXCEPTIONS), 'utf8'), EXCEPTIONS)
  for (const { name, place } of rows) t.ok(asked.has(name), `${place}: ${name}`)
})

t.test('a variant leaves out topics that there are', async (t) => {
  const topics = new Set(allFragments().map(({ file }) => topicOf(file)))
  for (const { file, without } of allFragments()) {
    for (const topic of without) t.ok(topics.has(topic), `${file}: ${topic}`)
  }
  const plain = readAsking('x86_64', [], '').asked
  const small = readAsking('x86_64', ['firecracker'], '').asked
  t.equal(plain.get('PCI')?.value, 'y')
  t.equal(small.get('PCI')?.value, 'n')
  t.notOk(small.has('VIRTIO_PCI'))
  t.strictSame(variantNames(), ['debug', 'firecracker', 'lcow', 'measured', 'nested'])
})

t.test('a fragment of the user is merged last, for the architectures it names', async (t) => {
  const folder = t.testdir({
    'a.conf': '# quicker\nCONFIG_HZ_250=n\nCONFIG_HZ_1000=y\n',
    'b.conf': '# arch: s390x\n# elsewhere\nCONFIG_ELSEWHERE=y\n',
    'notes.txt': 'no fragment',
  })
  const { asked, digest } = readAsking('x86_64', [], folder)
  t.equal(asked.get('HZ_250')?.value, 'n')
  t.equal(asked.get('HZ_1000')?.place, `${folder}/a.conf:3`)
  t.notOk(asked.has('ELSEWHERE'))
  t.not(digest, readAsking('x86_64', [], '').digest)
})

t.test('what is no fragment is told with its lines', async (t) => {
  const bad = '# a reason\nCONFIG_A=y\nCONFIG_B\nCONFIG_A=n\n# arch: vax\n'
  t.throws(() => parseFragment(bad, 'x.conf'), {
    code: 'E_INPUT',
    because: [
      /^x\.conf:3: CONFIG_B$/,
      /^x\.conf:4: CONFIG_A is in x\.conf:2 already/,
      /vax is none of x86_64/,
    ],
  })
  t.throws(
    () => parseExceptions('# why\nCONFIG_A maybe\nCONFIG_B unmet soon=1\n\nCONFIG_C unmet\n', 'e.list'),
    {
      code: 'E_INPUT',
      because: [/e\.list:2/, /e\.list:3/, /e\.list:5: .*no reason/],
    },
  )
})
