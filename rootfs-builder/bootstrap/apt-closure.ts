// SPDX-License-Identifier: Apache-2.0
import { fieldOf } from '../../scripts/apt-lists.ts'

/** Where a paragraph is. Most are never looked at: they are not even cut from their list. */
interface Place {
  readonly list: number
  readonly start: number
  readonly end: number
  /** Another one about a package of the same name. */
  readonly next: Place | undefined
}

/** A word that names one package and nothing else: no pattern, version, suite or architecture. */
const NAME = /^[a-z0-9][a-z0-9+.-]+$/

/**
 * Of each list the paragraphs that apt could take when it is asked for these packages and for those that
 * are essential or required: theirs, and those of all that they depend on by any alternative or provider.
 *
 * Of 64,000 packages of a distro they are a few thousand, and apt reads those in a fiftieth of the time.
 * What it takes is the same: it installs nothing that no dependency names. When a word is no name of a
 * package in the lists, apt gets all of them, for it may be a pattern, or nearly a name.
 *
 * @param lists texts of lists, one character per byte
 */
export function reachableParagraphs(lists: readonly string[], asked: readonly string[]): string[][] {
  const { byName, providers, required } = readLists(lists)
  const isPlain = asked.every((word) => NAME.test(word) && (byName.has(word) || providers.has(word)))
  const wanted = new Set([...required, ...(isPlain ? asked : byName.keys())])
  const found = lists.map((): string[] => [])
  // A Set is walked with what is added on the way.
  for (const name of wanted) {
    for (const provider of providers.get(name) ?? []) wanted.add(provider)
    for (let place = byName.get(name); place !== undefined; place = place.next) {
      const paragraph = lists[place.list]?.slice(place.start, place.end) ?? ''
      found[place.list]?.push(paragraph)
      for (const other of namesIn(paragraph, DEPENDS)) wanted.add(other)
    }
  }
  return found
}

interface ReadLists {
  readonly byName: ReadonlyMap<string, Place>
  /** Names of packages by what they provide. */
  readonly providers: ReadonlyMap<string, readonly string[]>
  readonly required: readonly string[]
}

function readLists(lists: readonly string[]): ReadLists {
  const byName = new Map<string, Place>()
  const providers = new Map<string, string[]>()
  const required: string[] = []
  for (const [list, text] of lists.entries()) {
    const provides = finder(text, '\nProvides:')
    const marks = [finder(text, '\nEssential: yes'), finder(text, '\nPriority: required')]
    for (let start = 0; start < text.length;) {
      const found = text.indexOf('\n\n', start)
      const end = found === -1 ? text.length : found
      const name = nameAt(text, start, end)
      if (name !== '') {
        byName.set(name, { list, start, end, next: byName.get(name) })
        if (marks.some((isMarked) => isMarked(start, end))) required.push(name)
        if (provides(start, end)) {
          for (const provided of namesIn(text.slice(start, end), PROVIDES)) {
            providers.set(provided, [...(providers.get(provided) ?? []), name])
          }
        }
      }
      start = end + 1
      while (text[start] === '\n') start += 1
    }
  }
  return { byName, providers, required }
}

/** Tells whether a part of the text has the words; parts are asked for in order, so that it is searched once. */
function finder(text: string, words: string): (start: number, end: number) => boolean {
  let next = text.indexOf(words)
  return (start, end) => {
    while (next !== -1 && next < start) next = text.indexOf(words, start)
    return next !== -1 && next < end
  }
}

function nameAt(text: string, start: number, end: number): string {
  const first = 'Package: '
  if (!text.startsWith(first, start)) return fieldOf(text.slice(start, end), 'Package')
  const found = text.indexOf('\n', start)
  return text.slice(start + first.length, found === -1 ? end : found).trim()
}

const DEPENDS = /^(?:Pre-)?Depends:(.*(?:\n[ \t].*)*)/gim
const PROVIDES = /^Provides:(.*(?:\n[ \t].*)*)/gim

/** Names of packages in a field of relations, alternatives too. Source: deb-control(5), deb-src-control(5). */
function namesIn(paragraph: string, field: RegExp): string[] {
  return [...paragraph.matchAll(field)]
    .flatMap((match) => (match[1] ?? '').split(/[,|]/))
    .map((relation) => /[^\s:([<]+/.exec(relation)?.[0] ?? '')
    .filter((name) => name !== '')
}
