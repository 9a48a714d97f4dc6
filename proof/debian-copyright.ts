// SPDX-License-Identifier: Apache-2.0
import { allOf, isExpression, knownLicence, referenceTo } from './licence.ts'
import type { Licence, LicenceReference } from './licence.ts'

/**
 * Debian's short names that SPDX spells otherwise.
 * Source: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/, "License specification"
 */
const SHORT_NAMES: Readonly<Record<string, string>> = {
  expat: 'MIT',
  mit: 'MIT',
  'bsd-2-clause': 'BSD-2-Clause',
  'bsd-3-clause': 'BSD-3-Clause',
  'bsd-4-clause': 'BSD-4-Clause',
  artistic: 'Artistic-1.0-Perl',
  'artistic-1': 'Artistic-1.0-Perl',
  'artistic-2': 'Artistic-2.0',
  'apache-2': 'Apache-2.0',
  cc0: 'CC0-1.0',
  'mpl-2': 'MPL-2.0',
  psf: 'PSF-2.0',
  'psf-2': 'PSF-2.0',
  zlib: 'Zlib',
  'zlib/libpng': 'Zlib',
  openssl: 'OpenSSL',
  'w3c-software': 'W3C',
}

/** Exceptions by the words of Debian's authors. */
const EXCEPTIONS: Readonly<Record<string, string>> = {
  bison: 'Bison-exception-2.2',
  'linux-syscall-note': 'Linux-syscall-note',
  autoconf: 'Autoconf-exception-generic',
  libtool: 'Libtool-exception',
  font: 'Font-exception-2.0',
  classpath: 'Classpath-exception-2.0',
}

/** `GPL-2+`, `LGPL-2.1`, `GFDL-1.3+`, `GFDL-NIV-1.3+` */
const GNU = /^(GPL|LGPL|AGPL|GFDL)(-NIV)?-(\d+)(\.\d+)?(\+|-or-later|-only)?$/i

function gnuLicence(name: string): string | undefined {
  const [, family = '', invariants = '', major = '', minor = '.0', later = ''] = GNU.exec(name) ?? []
  if (family === '') return undefined
  const end = later === '+' || later === '-or-later' ? 'or-later' : 'only'
  const middle = invariants === '' ? '' : '-no-invariants'
  return knownLicence(`${family.toUpperCase()}-${major}${minor}${middle}-${end}`)
}

/** The SPDX name of one of Debian's, or undefined. */
export function spdxOfDebian(name: string): string | undefined {
  const plain = name.replace(/[,;.]+$/, '')
  const withOut = /^(\S+)\s+with\s+(.+?)(?:\s+exception)?$/i.exec(plain)
  if (withOut !== null) {
    const licence = spdxOfDebian(withOut[1] ?? '')
    if (licence === undefined) return undefined
    const words = (withOut[2] ?? '').trim().replace(/\s+/g, '-')
    const named = [EXCEPTIONS[words.toLowerCase()] ?? words, `${words}-exception`]
    return named.map((name) => `${licence} WITH ${name}`).find(isExpression)
  }
  return gnuLicence(plain) ?? SHORT_NAMES[plain.toLowerCase()] ?? knownLicence(plain)
}

interface Paragraph {
  readonly fields: ReadonlyMap<string, string>
}

function paragraphsOf(text: string): Paragraph[] {
  return text.split(/\n(?:[ \t]*\n)+/).map((block) => {
    const fields = new Map<string, string>()
    let last = ''
    for (const line of block.split('\n')) {
      const field = /^([A-Za-z][A-Za-z-]*):[ \t]*(.*)$/.exec(line)
      if (field !== null) {
        last = String(field[1]).toLowerCase()
        fields.set(last, String(field[2]))
      } else if (last !== '' && /^[ \t]/.test(line)) {
        fields.set(last, `${fields.get(last) ?? ''}\n${line}`)
      }
    }
    return { fields }
  })
}

/** The alternatives and parts of a licence field: `GPL-2 or Artistic, and Expat`. */
function expressionOf(field: string, atom: (name: string) => string): string {
  const either = field.split(/\s*,?\s+or\s+/i).map((side) => {
    const parts = side.split(/\s*,\s*and\s+|\s+and\s+(?!conditions)|\s*,\s+/i).filter((part) => part !== '')
    return allOf(parts.map((part) => atom(part.trim()))) ?? atom(side)
  })
  const distinct = [...new Set(either)]
  return distinct.length < 2
    ? String(distinct[0])
    : distinct.map((text) => (/\sAND\s/.test(text) ? `(${text})` : text)).join(' OR ')
}

/**
 * The licence that a package's copyright file tells.
 *
 * A file in the machine-readable format gives all licences of its `Files` paragraphs, joined with AND;
 * names that SPDX has not, and files in another format, become references with the text's digest.
 *
 * @param where path of the file in the guest
 */
export function licenceOfCopyright(text: string, packageName: string, where: string): Licence {
  const paragraphs = paragraphsOf(text)
  const format = paragraphs[0]?.fields.get('format') ?? paragraphs[0]?.fields.get('format-specification')
  if (format === undefined) return unread(text, packageName, where)
  const texts = new Map<string, string>()
  const named: string[] = []
  for (const { fields } of paragraphs) {
    const [name = '', ...lines] = (fields.get('license') ?? '').split('\n')
    if (name.trim() === '') continue
    if (lines.length > 0) texts.set(name.trim().toLowerCase(), lines.join('\n'))
    if (fields.has('files')) named.push(name.trim())
  }
  if (named.length === 0) return unread(text, packageName, where)
  const references = new Map<string, LicenceReference>()
  const atom = (name: string): string => {
    const spdx = spdxOfDebian(name)
    if (spdx !== undefined) return spdx
    const reference = referenceTo(name, texts.get(name.toLowerCase()) ?? name, `licence ${name} in ${where}`)
    references.set(reference.id, reference)
    return reference.id
  }
  const expression = allOf(named.map((field) => expressionOf(field, atom)))
  return expression !== undefined && isExpression(expression)
    ? { expression, references: [...references.values()] }
    : unread(text, packageName, where)
}

function unread(text: string, packageName: string, where: string): Licence {
  const reference = referenceTo(`${packageName}-copyright`, text, where)
  return { expression: reference.id, references: [reference] }
}
