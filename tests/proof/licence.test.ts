// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { licenceOfCopyright, spdxOfDebian } from '../../proof/debian-copyright.ts'
import { allOf, isExpression, licenceOfField } from '../../proof/licence.ts'

t.test("Debian's short names become SPDX's", (t) => {
  const names: Readonly<Record<string, string>> = {
    'GPL-2': 'GPL-2.0-only',
    'GPL-2+': 'GPL-2.0-or-later',
    'LGPL-2.1+': 'LGPL-2.1-or-later',
    'GFDL-NIV-1.3+': 'GFDL-1.3-no-invariants-or-later',
    Expat: 'MIT',
    'BSD-3-clause': 'BSD-3-Clause',
    'Apache-2.0': 'Apache-2.0',
    'GPL-2 with Linux-syscall-note exception': 'GPL-2.0-only WITH Linux-syscall-note',
    'GPL-3+ with Bison exception': 'GPL-3.0-or-later WITH Bison-exception-2.2',
  }
  for (const [name, spdx] of Object.entries(names)) t.equal(spdxOfDebian(name), spdx, name)
  for (const name of ['public-domain', 'BSD-3-clause-John', 'GPL-9', ''])
    t.equal(spdxOfDebian(name), undefined, name)
  t.end()
})

t.test('a copyright file in the machine-readable format gives an expression of all its files', (t) => {
  const text = [
    'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/',
    'Upstream-Name: thing',
    '',
    'Files: *',
    'Copyright: 2020 Somebody',
    'License: GPL-2+ or Artistic',
    '',
    'Files: lib/*',
    'Copyright: 2021 Else',
    'License: Expat',
    ' Permission is hereby granted …',
    '',
    'Files: odd/*',
    'License: public-domain',
    '',
    'License: public-domain',
    ' Nobody claims any right.',
    '',
  ].join('\n')
  const { expression, references } = licenceOfCopyright(text, 'thing', '/usr/share/doc/thing/copyright')
  t.match(
    expression,
    /^\(GPL-2\.0-or-later OR Artistic-1\.0-Perl\) AND LicenseRef-public-domain-[0-9a-f]{12} AND MIT$/,
  )
  t.ok(isExpression(expression ?? ''))
  t.equal(references.length, 1)
  t.match(
    references[0]?.text,
    /licence public-domain in \/usr\/share\/doc\/thing\/copyright, sha256 [0-9a-f]{64}/,
  )
  const other = licenceOfCopyright(text.replace('any right', 'a right'), 'thing', 'x')
  t.not(other.references[0]?.id, references[0]?.id, 'another text is another reference')
  t.end()
})

t.test('a copyright file in prose becomes a reference with its digest', (t) => {
  const { expression, references } = licenceOfCopyright('This is free software.\n', 'g++', '/x')
  t.match(expression, /^LicenseRef-g--copyright-[0-9a-f]{12}$/)
  t.ok(isExpression(expression ?? ''))
  t.equal(references[0]?.id, expression)
  t.end()
})

t.test(
  'a field of a package is an expression where it is one, and else words that are or become one',
  (t) => {
    const of = (field: string) => licenceOfField(field, 'here').expression
    t.equal(of('GPL-2.0-only AND MIT'), 'GPL-2.0-only AND MIT')
    t.equal(of(''), undefined)
    t.match(of('none'), /^LicenseRef-none-[0-9a-f]{12}$/)
    t.match(
      of('MIT and Redistributable, no modification permitted'),
      /^LicenseRef-Redistributable-\w+ AND LicenseRef-no-modification-permitted-\w+ AND MIT$/,
    )
    for (const field of ['GPLv2+ and LGPLv2+', 'MIT AND (', 'a/b c'])
      t.ok(isExpression(of(field) ?? ''), field)
    t.equal(allOf(['MIT', 'GPL-2.0-only OR MIT', 'MIT']), '(GPL-2.0-only OR MIT) AND MIT')
    t.end()
  },
)
