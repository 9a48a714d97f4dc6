// SPDX-License-Identifier: Apache-2.0

type Table = Readonly<Record<string, unknown>>

/** What is wrong with a value, or undefined; `where` names it in messages. */
type Check = (value: unknown, where: string) => string | undefined

/** Names become parts of paths and of a package manager's own files: one line, without control characters. */
const line: Check = (value, where) =>
  typeof value === 'string' && !/[\p{Cc}]/u.test(value) ? undefined : `${where}: expected a line of text`

const matching =
  (pattern: RegExp, expected: string): Check =>
  (value, where) =>
    typeof value === 'string' && pattern.test(value) ? undefined : `${where}: expected ${expected}`

const digest = matching(/^[0-9a-f]{64}$/, '64 hex digits')
const commit = matching(/^[0-9a-f]{40}$/, 'a commit of 40 hex digits')
const address: Check = (value, where) =>
  typeof value === 'string' && /^https?:\/\/[^\s]+$/.test(value) && isReadable(value)
    ? undefined
    : `${where}: expected a URL that starts with http:// or https://`
const name = matching(/^[A-Za-z0-9][A-Za-z0-9._+-]*$/, 'a name of letters, digits and . _ + -')
const version = matching(/^[A-Za-z0-9][A-Za-z0-9.+:~_^-]*$/, 'a version')
/** A path below an index, as locks may have it. */
export const PATH_BELOW = /^(?!\/)(?!.*\.\.)[A-Za-z0-9._+/-]+$/
const relativePath = matching(PATH_BELOW, 'a path below its index')
const word = matching(/^[A-Za-z0-9][A-Za-z0-9._+/@-]*$/, 'a word')

const oneOf =
  (...allowed: readonly string[]): Check =>
  (value, where) =>
    typeof value === 'string' && allowed.includes(value)
      ? undefined
      : `${where}: expected ${allowed.join(' or ')}`

const size: Check = (value, where) =>
  Number.isSafeInteger(value) && Number(value) >= 0 ? undefined : `${where}: expected a whole number`

const listOf =
  (check: Check): Check =>
  (value, where) => {
    if (!Array.isArray(value)) return `${where}: expected a list`
    return first(value.map((item, index) => () => check(item, `${where}[${String(index)}]`)))
  }

const lines = listOf(line)

const wordsOf: Check = (value, where) => {
  if (!isTable(value)) return `${where}: expected a table`
  return first(
    Object.entries(value).map(
      ([key, item]) =>
        () =>
          line(item, `${where}.${key}`),
    ),
  )
}

interface Fields {
  readonly must: Readonly<Record<string, Check>>
  readonly may?: Readonly<Record<string, Check>>
}

const table =
  ({ must, may = {} }: Fields): Check =>
  (value, where) => {
    if (!isTable(value)) return `${where}: expected a table`
    const at = (key: string): string => (where === '' ? key : `${where}.${key}`)
    // What is not known might have been meant to change something.
    const unknown = Object.keys(value).find((key) => !(key in must) && !(key in may))
    if (unknown !== undefined) return `${at(unknown)}: is nothing that a lock has`
    return first([
      ...Object.entries(must).map(
        ([key, check]) =>
          () =>
            check(value[key], at(key)),
      ),
      ...Object.entries(may)
        .filter(([key]) => value[key] !== undefined)
        .map(
          ([key, check]) =>
            () =>
              check(value[key], at(key)),
        ),
    ])
  }

const file = { url: address, sizeBytes: size, sha256: digest }

const index = table({
  must: { ...file, name: line, archive: address, signers: lines },
  may: { dateSeconds: size, lists: listOf(table({ must: { ...file, path: relativePath } })) },
})

const packageRow = table({
  must: { ...file, name, version, arch: name, index: line },
  may: { signer: line, layer: oneOf('extra'), priority: word, section: word, record: lines },
})

const guest = table({
  must: {
    ...{ distro: name, release: name, arch: name, manager: oneOf('apt', 'apk', 'dnf'), mirror: address },
    ...{ components: lines, repositories: lines, asked: lines, extra: lines },
    ...{ indexes: listOf(index), packages: listOf(packageRow) },
  },
})

const kernel = table({
  must: { asked: wordsOf, title: line, identity: wordsOf, signers: lines, indexes: listOf(index) },
  may: { file: table({ must: file }), git: table({ must: { repo: line, commit } }) },
})

const agent = table({ must: { repo: line, version: line, commit } })

/** The first thing that is wrong with what was read as a lock, or undefined. */
export function checkLock(value: unknown, format: string): string | undefined {
  if (isTable(value) && typeof value['format'] === 'string' && value['format'] !== format) {
    return `format: is ${value['format']}, and this osbuilder reads ${format}`
  }
  const shape = table({
    must: {
      ...{ format: oneOf(format), guests: listOf(guest) },
      ...{ agents: listOf(agent), kernels: listOf(kernel) },
    },
  })
  return shape(value, '') ?? twiceNamed(value as LockShape)
}

interface LockShape {
  readonly guests: readonly {
    readonly indexes: readonly { readonly name: string }[]
    readonly packages: readonly { readonly name: string; readonly arch: string; readonly index: string }[]
  }[]
}

function twiceNamed({ guests }: LockShape): string | undefined {
  for (const [number, { indexes, packages }] of guests.entries()) {
    const where = `guests[${String(number)}]`
    if (indexes.length === 0) return `${where}.indexes: expected at least one`
    const known = new Set(indexes.map((item) => item.name))
    const seen = new Set<string>()
    for (const item of packages) {
      const key = `${item.name} ${item.arch}`
      if (seen.has(key)) return `${where}: package ${key} is there twice`
      seen.add(key)
      if (!known.has(item.index))
        return `${where}: package ${key} is from index ${item.index}, which is not there`
    }
  }
  return undefined
}

/** True for an address of which each part can be told. */
function isReadable(url: string): boolean {
  try {
    decodeURIComponent(new URL(url).pathname)
    return true
  } catch {
    return false
  }
}

function first(checks: readonly (() => string | undefined)[]): string | undefined {
  for (const check of checks) {
    const problem = check()
    if (problem !== undefined) return problem
  }
  return undefined
}

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
