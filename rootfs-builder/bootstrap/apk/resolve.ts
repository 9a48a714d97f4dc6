// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../../../scripts/errors.ts'
import { nearNames } from '../near-names.ts'
import { isMet } from './dependency.ts'
import type { Dependency, Provided } from './dependency.ts'
import type { ApkPackage } from './index.ts'
import { compareVersions } from './version.ts'

/** One dependency that must be met, and who asks for it. */
interface Wish {
  readonly dependency: Dependency
  /** Names from the user's list to the package that asks. */
  readonly chain: readonly string[]
  /** Tags of repositories that may serve it: what asks for it was asked for with them. */
  readonly tags: readonly string[]
  /** Of a name that several packages have: all else was decided first. */
  readonly isLate?: true
}

/** Wishes in their order; a list that its tails share. */
interface Pending {
  readonly wish: Wish
  readonly next: Pending | undefined
}

interface Provider {
  readonly item: ApkPackage
  readonly provided: Provided
}

/** Why something cannot be; made into an error only when the user is told of it. */
type Refusal = () => BuildError

/** Choices after which a search is given up. */
const MOST_STEPS = 50_000

/**
 * Choose the packages that a world asks for, each before those that need it.
 *
 * @param world what the user and the distro ask for
 * @param packages all packages of all repositories, the most wanted repository first
 * @throws BuildError E_INPUT when a name is not there, or two wishes contradict each other
 */
export function resolvePackages(world: readonly Dependency[], packages: readonly ApkPackage[]): ApkPackage[] {
  const providers = providersByName(packages)
  const pins = new Map(world.flatMap(({ name, tag }) => (tag === undefined ? [] : [[name, tag]])))
  const wishes = world.map((dependency): Wish => {
    return { dependency, chain: ['the list of packages'], tags: tagsOf(dependency.tag) }
  })
  let search = new Search(providers, pins)
  const refusal = search.solve(wishes)
  if (refusal !== undefined) throw refusal()
  const conditional = packages.filter(({ installIf }) => installIf.length > 0)
  const left = new Set<ApkPackage>()
  const added: Wish[] = []
  for (;;) {
    const item = conditional.find((one) => !left.has(one) && search.isWanted(one))
    if (item === undefined) return inOrder(search.chosen, providers)
    left.add(item)
    const wish = conditionalWish(item)
    if (search.solve([wish]) === undefined) {
      added.push(wish)
      continue
    }
    // It may fit what else could have been chosen; where it does not, it is left out.
    const again = new Search(providers, pins)
    if (again.solve([...added, wish, ...wishes]) !== undefined || !again.holds(item)) continue
    search = again
    added.push(wish)
  }
}

function tagsOf(tag: string | undefined): string[] {
  return tag === undefined ? [] : [tag]
}

function conditionalWish({ name, version, repository }: ApkPackage): Wish {
  return {
    dependency: { name, operator: '=', version, isConflict: false, text: name },
    chain: [`install_if of ${name}`],
    tags: tagsOf(repository.tag),
  }
}

function names(item: ApkPackage): Provided[] {
  return [{ name: item.name, version: item.version }, ...item.provides]
}

function providersByName(packages: readonly ApkPackage[]): ReadonlyMap<string, readonly Provider[]> {
  const byName = new Map<string, Provider[]>()
  for (const item of packages)
    for (const provided of names(item)) push(byName, provided.name, { item, provided })
  return byName
}

function push<Value>(lists: Map<string, Value[]>, key: string, value: Value): void {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [value])
  else list.push(value)
}

/** What is decided, and how to decide more; a decision that fails is taken back. */
class Search {
  readonly chosen = new Map<string, ApkPackage>()
  /** What the chosen packages provide. */
  private readonly provided = new Map<string, Provider[]>()
  /** Dependencies of the kind `!name`, by name, with who has them. */
  private readonly forbidden = new Map<string, Wish[]>()
  /** How to take back what was decided, the last decision last. */
  private readonly undo: (() => void)[] = []
  private steps = 0
  private readonly providers: ReadonlyMap<string, readonly Provider[]>
  private readonly pins: ReadonlyMap<string, string>

  constructor(providers: ReadonlyMap<string, readonly Provider[]>, pins: ReadonlyMap<string, string>) {
    this.providers = providers
    this.pins = pins
  }

  /** Meet all wishes beside those that are met; else change nothing and tell why it cannot be. */
  solve(wishes: readonly Wish[]): Refusal | undefined {
    this.steps = 0
    const mark = this.undo.length
    const refusal = this.meet(pending(wishes, undefined), [])
    if (refusal !== undefined) this.takeBack(mark)
    return refusal
  }

  /** True for a package that is to be installed because all it names is. */
  isWanted(item: ApkPackage): boolean {
    return !this.chosen.has(item.name) && this.holds(item)
  }

  /** True when all that a package's install_if names is there. */
  holds({ installIf, repository: { tag } }: ApkPackage): boolean {
    const met = installIf.map((dependency) => this.met(dependency))
    if (installIf.some(({ isConflict }, index) => (met[index] === undefined) !== isConflict)) return false
    return tag === undefined || met.some((item) => item?.repository.tag === tag)
  }

  /** The chosen package that a dependency names. */
  private met(dependency: Dependency): ApkPackage | undefined {
    return this.provided.get(dependency.name)?.find(({ provided }) => isMet(dependency, provided))?.item
  }

  private takeBack(mark: number): void {
    while (this.undo.length > mark) this.undo.pop()?.()
  }

  /** Depth first, going back where a wish cannot be met. */
  private meet(list: Pending | undefined, late: readonly Wish[]): Refusal | undefined {
    let deferred = late
    for (let at = list; ; at = at.next) {
      if (at === undefined) {
        if (deferred.length === 0) return undefined
        at = pending(deferred, undefined)
        deferred = []
        if (at === undefined) return undefined
      }
      const { wish, next } = at
      if (wish.dependency.isConflict) {
        const refusal = this.forbid(wish)
        if (refusal !== undefined) return refusal
      } else if (this.met(wish.dependency) === undefined) {
        const fitting = this.fitting(wish)
        if (typeof fitting === 'function') return fitting
        const isOnly = new Set(fitting.map(({ item }) => item.name)).size === 1
        if (!isOnly && wish.isLate !== true) {
          deferred = [...deferred, { ...wish, isLate: true }]
          continue
        }
        const candidates = isOnly ? fitting : fitting.filter(isAutomatic)
        if (candidates.length === 0) return () => ambiguous(wish, fitting)
        return this.choose(candidates, wish, next, deferred)
      }
    }
  }

  /** Try one candidate after the other, each with all that is still to be met. */
  private choose(
    candidates: readonly Provider[],
    wish: Wish,
    next: Pending | undefined,
    late: readonly Wish[],
  ): Refusal | undefined {
    let first: Refusal | undefined
    for (const { item } of candidates) {
      this.steps += 1
      if (this.steps > MOST_STEPS) break
      const mark = this.undo.length
      const chain = [...wish.chain, `${item.name}-${item.version}`]
      const own = item.depends.map((dependency): Wish => ({ dependency, chain, tags: wish.tags }))
      // Conflicts first: they cost nothing and rule out the most.
      own.sort((a, b) => Number(b.dependency.isConflict) - Number(a.dependency.isConflict))
      const refusal = this.take(item, wish) ?? this.meet(pending(own, next), late)
      if (refusal === undefined) return undefined
      this.takeBack(mark)
      first ??= refusal
    }
    return first ?? tooMany
  }

  private forbid(wish: Wish): Refusal | undefined {
    const { name } = wish.dependency
    const item = this.met(wish.dependency)
    if (item !== undefined) return () => contradiction(item, wish)
    push(this.forbidden, name, wish)
    this.undo.push(() => this.forbidden.get(name)?.pop())
    return undefined
  }

  /** Packages that meet a wish, the best first. */
  private fitting(wish: Wish): readonly Provider[] | Refusal {
    const { dependency, tags } = wish
    const named = this.providers.get(dependency.name) ?? []
    if (named.length === 0) return () => missing(wish, [...this.providers.keys()])
    const pin = dependency.tag ?? this.pins.get(dependency.name)
    const mayServe = ({ repository: { tag } }: ApkPackage): boolean =>
      tag === undefined || tag === pin || tags.includes(tag)
    const fitting = named.filter(({ item, provided }) => isMet(dependency, provided) && mayServe(item))
    if (fitting.length === 0) return () => unfit(wish, named)
    return fitting.sort((a, b) => better(a, b, pin))
  }

  /** Decide for a package. */
  private take(item: ApkPackage, wish: Wish): Refusal | undefined {
    const same = this.chosen.get(item.name)
    if (same !== undefined) return () => twoVersions(same, wish)
    for (const provided of names(item)) {
      const against = this.forbidden.get(provided.name)?.find(({ dependency }) => isMet(dependency, provided))
      if (against !== undefined) return () => contradiction(item, against, wish)
      // Who provides a name with a version is the only one to do so.
      const others = provided.version === undefined ? [] : (this.provided.get(provided.name) ?? [])
      const other = others.find((one) => one.provided.version !== undefined)
      if (other !== undefined) return () => bothProvide(item, other, wish)
    }
    this.chosen.set(item.name, item)
    for (const provided of names(item)) push(this.provided, provided.name, { item, provided })
    this.undo.push(() => {
      this.chosen.delete(item.name)
      for (const { name } of names(item)) this.provided.get(name)?.pop()
    })
    return undefined
  }
}

function pending(wishes: readonly Wish[], next: Pending | undefined): Pending | undefined {
  return wishes.reduceRight<Pending | undefined>((list, wish) => ({ wish, next: list }), next)
}

/** Of several packages with a name without version one is chosen only by its priority. Source: apk-package(5) */
function isAutomatic({ item, provided }: Provider): boolean {
  return provided.name === item.name || provided.version !== undefined || item.providerPriority !== undefined
}

function better(a: Provider, b: Provider, pin: string | undefined): number {
  // A tag that was asked for outweighs all else, as the user's own words do; one that is only allowed comes last.
  const rank = ({ item: { repository } }: Provider): number =>
    repository.tag === undefined ? 1 : repository.tag === pin ? 0 : 2
  const ranks = rank(a) - rank(b)
  if (ranks !== 0) return ranks
  const versions = compareVersions(b.provided.version ?? '0', a.provided.version ?? '0')
  if (versions !== 0) return versions
  return (b.item.providerPriority ?? 0) - (a.item.providerPriority ?? 0)
}

function tooMany(): BuildError {
  return new BuildError('E_INPUT', 'the packages contradict each other in too many ways to find out how', {
    hint: 'ask for fewer packages with EXTRA_PKGS, or give their versions as name=version',
  })
}

function missing(wish: Wish, all: readonly string[]): BuildError {
  const plain = all.filter((name) => !name.includes(':') && !name.startsWith('/'))
  const near = nearNames(wish.dependency.name, plain)
  return new BuildError('E_INPUT', `no package ${wish.dependency.name} in the repositories`, {
    because: [...told(wish), ...(near.length === 0 ? [] : [`near names: ${near.join(', ')}`])],
    hint: 'check EXTRA_PKGS, OS_VERSION and REPO_COMPONENTS',
  })
}

function unfit(wish: Wish, named: readonly Provider[]): BuildError {
  const there = named.map(
    ({ item: { name, version, repository } }) =>
      `${name}-${version}${repository.tag === undefined ? '' : ` of @${repository.tag}`}`,
  )
  const tagged = named.find(
    ({ item, provided }) => item.repository.tag !== undefined && isMet(wish.dependency, provided),
  )
  return new BuildError('E_INPUT', `no package is ${wish.dependency.text}`, {
    because: [...told(wish), `there is: ${[...new Set(there)].join(', ')}`],
    hint:
      tagged === undefined
        ? 'check EXTRA_PKGS and OS_VERSION'
        : `make EXTRA_PKGS=${tagged.item.name}@${tagged.item.repository.tag ?? ''} …    takes it from there`,
  })
}

function ambiguous(wish: Wish, fitting: readonly Provider[]): BuildError {
  const some = [...new Set(fitting.map(({ item }) => item.name))]
  return new BuildError('E_INPUT', `several packages provide ${wish.dependency.name}, none by default`, {
    because: [...told(wish), `provided by: ${some.join(', ')}`],
    hint: `make EXTRA_PKGS=${String(some[0])} …    chooses one`,
  })
}

function twoVersions(same: ApkPackage, wish: Wish): BuildError {
  return new BuildError('E_INPUT', `${same.name}: two versions are asked for`, {
    because: [...told(wish), `chosen already: ${same.name}-${same.version}`],
    hint: 'check the versions in EXTRA_PKGS',
  })
}

function bothProvide(item: ApkPackage, { item: other, provided }: Provider, wish: Wish): BuildError {
  return new BuildError('E_INPUT', `${item.name} and ${other.name} both provide ${provided.name}`, {
    because: told(wish),
    hint: `leave one of them out of EXTRA_PKGS, or forbid one: EXTRA_PKGS='!${other.name}'`,
  })
}

function contradiction(item: ApkPackage, against: Wish, wish?: Wish): BuildError {
  const by = against.chain.at(-1) ?? ''
  return new BuildError(
    'E_INPUT',
    `${item.name}-${item.version} may not be installed: ${by} has ${against.dependency.text}`,
    {
      because: [...told(against), ...(wish === undefined ? [] : told(wish))],
      hint: 'leave out one of the two',
    },
  )
}

/** Who asked for it, from the user's list on. */
function told({ dependency, chain }: Wish): string[] {
  return [`${[...chain, dependency.text].join(' -> ')}`]
}

/** Every package after those it needs; in a circle the first that was asked for comes last. */
function inOrder(
  chosen: ReadonlyMap<string, ApkPackage>,
  providers: ReadonlyMap<string, readonly Provider[]>,
): ApkPackage[] {
  const ordered = new Set<ApkPackage>()
  const begun = new Set<ApkPackage>()
  const visit = (item: ApkPackage): void => {
    if (begun.has(item)) return
    begun.add(item)
    for (const dependency of item.depends) {
      if (dependency.isConflict) continue
      // By their names: a lock has them in another order than an index.
      const others = (providers.get(dependency.name) ?? [])
        .filter(
          ({ item: other, provided }) => chosen.get(other.name) === other && isMet(dependency, provided),
        )
        .sort((a, b) => (a.item.name < b.item.name ? -1 : 1))
      for (const { item: other } of others) visit(other)
    }
    ordered.add(item)
  }
  for (const item of [...chosen.values()].sort((a, b) => (a.name < b.name ? -1 : 1))) visit(item)
  return [...ordered]
}
