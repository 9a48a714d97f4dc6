// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** One `config` entry of the kernel; a symbol may have several. */
export interface Definition {
  readonly name: string
  /** File and line in the sources. */
  readonly place: string
  /** Everything that must hold: its own `depends on`, and those of what is around it. */
  readonly depends: readonly string[]
  /** Conditions of its prompt; undefined when it has none, and so cannot be asked for. */
  prompt: string | undefined
  /** Members of the choice that it belongs to. */
  readonly choice: string[] | undefined
}

export interface Select {
  readonly by: string
  readonly target: string
  readonly condition: string
}

/** What the Kconfig files of an architecture say of its symbols. */
export interface Kconfig {
  readonly definitions: ReadonlyMap<string, readonly Definition[]>
  readonly selects: readonly Select[]
}

interface Block {
  readonly kind: 'if' | 'menu' | 'choice'
  readonly depends: string[]
  readonly members: string[]
}

/**
 * Read the Kconfig files of a kernel, as far as is needed to tell why a symbol was not taken.
 *
 * @param srcArch the kernel's name of the architecture, such as `x86`
 */
export function readKconfig(tree: string, srcArch: string): Kconfig {
  const reader = new Reader(tree, srcArch)
  reader.file('Kconfig')
  return { definitions: reader.definitions, selects: reader.selects }
}

class Reader {
  readonly definitions = new Map<string, Definition[]>()
  readonly selects: Select[] = []
  readonly #tree: string
  readonly #srcArch: string
  #blocks: Block[] = []
  /** What `depends on` and prompts belong to: a symbol, a block, or something that does not matter. */
  #entry: (Definition & { depends: string[] }) | undefined
  #block: Block | undefined

  constructor(tree: string, srcArch: string) {
    this.#tree = tree
    this.#srcArch = srcArch
  }

  file(path: string): void {
    const full = join(this.#tree, path)
    if (!existsSync(full)) return
    const lines = readFileSync(full, 'utf8').replaceAll('\\\n', ' ').split('\n')
    let helpIndent: number | undefined
    for (const [index, raw] of lines.entries()) {
      const line = raw.trim()
      if (helpIndent !== undefined) {
        const indent = indentOf(raw)
        if (line === '' || indent >= Math.max(helpIndent, 1)) {
          if (line !== '' && helpIndent === 0) helpIndent = indent
          continue
        }
        helpIndent = undefined
      }
      if (line === '' || line.startsWith('#')) continue
      if (/^(---)?help(---)?$/.test(line)) helpIndent = 0
      else this.#statement(line, `${path}:${String(index + 1)}`)
    }
  }

  #statement(line: string, place: string): void {
    const [keyword = '', rest = ''] = splitWord(line)
    switch (keyword) {
      case 'config':
      case 'menuconfig':
        return this.#define(rest, place)
      case 'source':
      case 'rsource':
        return this.#source(rest)
      case 'if':
        return this.#open({ kind: 'if', depends: [rest], members: [] })
      case 'menu':
        return this.#open({ kind: 'menu', depends: [], members: [] })
      case 'choice':
        return this.#open({ kind: 'choice', depends: [], members: [] })
      case 'endif':
      case 'endmenu':
      case 'endchoice':
        this.#blocks.pop()
        return this.#forget()
      case 'comment':
      case 'mainmenu':
        return this.#forget()
      default:
        this.#attribute(keyword, rest)
    }
  }

  #forget(): void {
    this.#entry = undefined
    this.#block = undefined
  }

  #open(block: Block): void {
    this.#blocks.push(block)
    this.#entry = undefined
    this.#block = block
  }

  #define(name: string, place: string): void {
    const choice = this.#blocks.findLast(({ kind }) => kind === 'choice')?.members
    choice?.push(name)
    const depends = this.#blocks.flatMap((block) => block.depends)
    const definition: Definition & { depends: string[] } = { name, place, depends, prompt: undefined, choice }
    this.definitions.set(name, [...(this.definitions.get(name) ?? []), definition])
    this.#entry = definition
    this.#block = undefined
  }

  #source(quoted: string): void {
    const path = quoted
      .replace(/^["']|["']$/g, '')
      .replaceAll('$(SRCARCH)', this.#srcArch)
      .replaceAll('$SRCARCH', this.#srcArch)
      .replaceAll('$(srctree)/', '')
    this.file(path)
    this.#forget()
  }

  #attribute(keyword: string, rest: string): void {
    const target = this.#entry ?? this.#block
    if (keyword === 'depends' && target !== undefined) {
      target.depends.push(rest.replace(/^on\s+/, ''))
      return
    }
    if (this.#entry === undefined) return
    if (['bool', 'tristate', 'string', 'int', 'hex', 'prompt'].includes(keyword) && /^["']/.test(rest)) {
      this.#entry.prompt = /\sif\s+(.*)$/.exec(rest.replace(/^(["']).*?[^\\]\1/, ''))?.[1] ?? 'y'
    } else if (keyword === 'select') {
      const [name = '', condition = ''] = rest.split(/\s+if\s+/)
      this.selects.push({ by: this.#entry.name, target: name.trim(), condition: condition || 'y' })
    }
  }
}

function splitWord(line: string): [string, string] {
  const match = /^(\S+)\s*(.*)$/.exec(line)
  return [match?.[1] ?? '', (match?.[2] ?? '').replace(/\s+#.*$/, '').trim()]
}

/** Tabs stop at every eighth column. */
function indentOf(line: string): number {
  let column = 0
  for (const character of line) {
    if (character === '\t') column += 8 - (column % 8)
    else if (character === ' ') column += 1
    else break
  }
  return column
}
