// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { reachableParagraphs } from '../../../rootfs-builder/bootstrap/apt-closure.ts'

/** A list of packages; each row is a name and further fields. */
function list(...rows: readonly (readonly string[])[]): string {
  return rows.map(([name = '', ...fields]) => [`Package: ${name}`, ...fields].join('\n')).join('\n\n')
}

function names(lists: readonly string[], asked: readonly string[]): string[][] {
  return reachableParagraphs(lists, asked).map((paragraphs) =>
    paragraphs.map((paragraph) => /^Package: (.*)$/m.exec(paragraph)?.[1] ?? '').sort(),
  )
}

const BASE = list(
  ['bash', 'Essential: yes', 'Pre-Depends: libc6 (>= 2.36), libtinfo6:any'],
  ['libc6', 'Version: 1'],
  ['libtinfo6'],
  ['mount', 'Priority: required'],
  ['other', 'Depends: lonely'],
  ['lonely', 'Description: a story', ' about Priority: required things'],
)

t.test('what is essential or required comes with all that it depends on, and nothing else does', (t) => {
  t.strictSame(names([BASE], []), [['bash', 'libc6', 'libtinfo6', 'mount']])
  t.strictSame(names([BASE], ['other']), [['bash', 'libc6', 'libtinfo6', 'lonely', 'mount', 'other']])
  t.end()
})

t.test('every alternative counts, and everyone who provides a name', (t) => {
  const text = list(
    ['asked', 'Depends: gone [amd64] | second,', ' third (= 1) <!nocheck>, virtual'],
    ['second'],
    ['third', 'Depends: asked'],
    ['real', 'Provides: thing, virtual (= 2)', 'Depends: deep'],
    ['another', 'Provides:', ' virtual'],
    ['deep'],
    ['alone', 'Provides: unwanted'],
    ['recommended', 'Version: 1'],
  )
  t.strictSame(names([text], ['asked']), [['another', 'asked', 'deep', 'real', 'second', 'third']])
  t.strictSame(names([text], ['virtual']), [['another', 'deep', 'real']], 'a name that nobody has alone')
  t.end()
})

t.test('each list keeps its own, all versions of a package among them', (t) => {
  const security = list(['libc6', 'Version: 2', 'Depends: libnew'], ['libnew'], ['lonely', 'Version: 3'])
  t.strictSame(names([BASE, security], []), [
    ['bash', 'libc6', 'libtinfo6', 'mount'],
    ['libc6', 'libnew'],
  ])
  const twice = `${list(['foo', 'Version: 1'])}\n\n\n${list(['foo', 'Version: 2', 'Depends: bar'], ['bar'])}\n`
  t.strictSame(names([twice], ['foo']), [['bar', 'foo', 'foo']])
  t.end()
})

t.test('apt gets all when a word may be more than a name, or is none', (t) => {
  const all = ['bash', 'libc6', 'libtinfo6', 'lonely', 'mount', 'other']
  for (const word of ['lib.*', 'bash=1', 'bash/sid', 'bash:arm64', 'bash-', 'no-such-package', '?all', '']) {
    t.strictSame(names([BASE], [word]), [all], word)
  }
  t.end()
})

t.test('a paragraph is found by its field, wherever that stands; text stays what it was', (t) => {
  const text = 'Version: 1\nPackage: odd\nEssential: yes\nDescription: \xe9\n\n'
  t.strictSame(reachableParagraphs([text], []), [[text.trim()]])
  t.strictSame(reachableParagraphs(['', '\n\n\n'], []), [[], []])
  t.end()
})
