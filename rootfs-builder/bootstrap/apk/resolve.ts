// SPDX-License-Identifier: Apache-2.0
import { BuildError } from '../../../scripts/errors.ts'
import { isMet } from './dependency.ts'
import type { Dependency, Provided } from './dependency.ts'
import type { ApkPackage } from './index.ts'
import { compareVersions } from './version.ts'

/** One dependency that must be met, and who asks for it. */
interface Wish {
  readonly dependency: Dependency
  /** Names from the user's list to the package that asks. */
  readonly chain: readonly string[]
}

interface Provider {
  readonly item: ApkPackage
  readonly provided: Provided
}

/** What is decided so far. Copied, not changed: a decision that fails is dropped. */
interface State {
  readonly chosen: ReadonlyMap<string, ApkPackage>
  /** Dependencies of the kind `!name`, with who has it. */
  readonly forbidden: readonly Wish[]
}

/** Steps after which a search is given up. */
const MOST_STEPS = 200_000

/**
 * Choose the packages that a world asks for, each before those that need it.
 *
 * @param world what the user and the distro ask for
 * @param packages all packages of all repositories, the most wanted repository first
 * @throws BuildError E_INPUT when a name is not there, or two wishes contradict each other
 */
export function resolvePackages(world: readonly Dependency[], packages: readonly ApkPackage[]): ApkPackage[] {
  const providers = providersByName(packages)
  const search = new Search(providers)
  let state: State = { chosen: new Map(), forbidden: [] }
  let wishes: Wish[] = world.map((dependency) => ({ dependency, chain: ['the list of packages'] }))
  const conditional = packages.filter(({ installIf }) => installIf.length > 0)
  while (wishes.length > 0) {
    state = search.solve(wishes, state)
    wishes = conditional
      .filter((item) => isWanted(item, state))
      .map((item) => ({
        dependency: { name: item.name, isConflict: false, text: item.name },
        chain: [`install_if of ${item.name}`],
      }))
  }
  return inOrder(state.chosen, providers)
}

/** True for a package that is installed because all it names is, unless it is already or may not be. */
function isWanted(item: ApkPackage, { chosen, forbidden }: State): boolean {
  if (chosen.has(item.name) || item.repository.tag !== undefined) return false
  const installed = [...chosen.values()]
  const holds = (dependency: Dependency): boolean =>
    installed.some((other) => names(other).some((provided) => isMet(dependency, provided))) !==
    dependency.isConflict
  return (
    item.installIf.every(holds) &&
    !forbidden.some(({ dependency }) => names(item).some((provided) => isMet(dependency, provided)))
  )
}

function names(item: ApkPackage): Provided[] {
  return [{ name: item.name, version: item.version }, ...item.provides]
}

function providersByName(packages: readonly ApkPackage[]): ReadonlyMap<string, readonly Provider[]> {
  const byName = new Map<string, Provider[]>()
  for (const item of packages) {
    for (const provided of names(item)) {
      const list = byName.get(provided.name)
      if (list === undefined) byName.set(provided.name, [{ item, provided }])
      else list.push({ item, provided })
    }
  }
  return byName
}

class Search {
  private steps = 0
  private readonly providers: ReadonlyMap<string, readonly Provider[]>

  constructor(providers: ReadonlyMap<string, readonly Provider[]>) {
    this.providers = providers
  }

  /** Meet all wishes, depth first, going back where one cannot be met. */
  solve(wishes: readonly Wish[], state: State): State {
    this.steps += 1
    if (this.steps > MOST_STEPS) {
      throw new BuildError('E_INPUT', 'the packages contradict each other in too many ways to find out how', {
        hint: 'ask for fewer packages with EXTRA_PKGS, or give their versions as name=version',
      })
    }
    const [wish, ...rest] = wishes
    if (wish === undefined) return state
    if (wish.dependency.isConflict) return this.solve(rest, this.forbid(wish, state))
    if (isChosen(wish.dependency, state)) return this.solve(rest, state)
    const candidates = this.candidates(wish)
    let failure: unknown
    for (const { item } of candidates) {
      try {
        const next = choose(item, wish, state)
        const chain = [...wish.chain, `${item.name}-${item.version}`]
        const own = item.depends.map((dependency) => ({ dependency, chain }))
        // Conflicts first: they cost nothing and rule out the most.
        own.sort((a, b) => Number(b.dependency.isConflict) - Number(a.dependency.isConflict))
        return this.solve([...own, ...rest], next)
      } catch (error) {
        if (!(error instanceof BuildError) || this.steps > MOST_STEPS) throw error
        failure ??= error
      }
    }
    throw failure
  }

  private forbid(wish: Wish, state: State): State {
    for (const item of state.chosen.values()) {
      if (!names(item).some((provided) => isMet(wish.dependency, provided))) continue
      throw contradiction(item, wish)
    }
    return { ...state, forbidden: [...state.forbidden, wish] }
  }

  /** Packages that meet a wish, the best first. */
  private candidates(wish: Wish): readonly Provider[] {
    const { dependency } = wish
    const named = this.providers.get(dependency.name) ?? []
    if (named.length === 0) throw this.missing(wish)
    const fitting = named.filter(
      ({ item, provided }) =>
        isMet(dependency, provided) &&
        (item.repository.tag === undefined || item.repository.tag === dependency.tag),
    )
    if (fitting.length === 0) {
      const there = named.map(({ item }) => `${item.name}-${item.version}`)
      throw new BuildError('E_INPUT', `no package is ${dependency.text}`, {
        because: [...told(wish), `there is: ${[...new Set(there)].join(', ')}`],
        hint: 'check EXTRA_PKGS and OS_VERSION',
      })
    }
    const isOnly = new Set(fitting.map(({ item }) => item.name)).size === 1
    const automatic = isOnly ? fitting : fitting.filter(isAutomatic)
    if (automatic.length > 0) return [...automatic].sort(better)
    const some = [...new Set(fitting.map(({ item }) => item.name))]
    throw new BuildError('E_INPUT', `several packages provide ${dependency.name}, none by default`, {
      because: [...told(wish), `provided by: ${some.join(', ')}`],
      hint: `make EXTRA_PKGS=${String(some[0])} …    chooses one`,
    })
  }

  private missing(wish: Wish): BuildError {
    const near = nearNames(wish.dependency.name, [...this.providers.keys()])
    return new BuildError('E_INPUT', `no package ${wish.dependency.name} in the repositories`, {
      because: [...told(wish), ...(near.length === 0 ? [] : [`near names: ${near.join(', ')}`])],
      hint: 'check EXTRA_PKGS, OS_VERSION and REPO_COMPONENTS',
    })
  }
}

function isChosen(dependency: Dependency, { chosen }: State): boolean {
  const own = chosen.get(dependency.name)
  if (own !== undefined && isMet(dependency, { name: own.name, version: own.version })) return true
  return [...chosen.values()].some((item) => item.provides.some((provided) => isMet(dependency, provided)))
}

/** Of several packages with a name without version one is chosen only by its priority. Source: apk-package(5) */
function isAutomatic({ item, provided }: Provider): boolean {
  return provided.name === item.name || provided.version !== undefined || item.providerPriority !== undefined
}

function better(a: Provider, b: Provider): number {
  // A tag that was asked for outweighs all else, as the user's own words do.
  const tags = Number(b.item.repository.tag !== undefined) - Number(a.item.repository.tag !== undefined)
  if (tags !== 0) return tags
  const versions = compareVersions(b.provided.version ?? '0', a.provided.version ?? '0')
  if (versions !== 0) return versions
  return (b.item.providerPriority ?? 0) - (a.item.providerPriority ?? 0)
}

function choose(item: ApkPackage, wish: Wish, state: State): State {
  const same = state.chosen.get(item.name)
  if (same !== undefined) {
    throw new BuildError('E_INPUT', `${item.name}: two versions are asked for`, {
      because: [...told(wish), `chosen already: ${same.name}-${same.version}`],
      hint: 'check the versions in EXTRA_PKGS',
    })
  }
  for (const other of state.forbidden) {
    if (names(item).some((provided) => isMet(other.dependency, provided)))
      throw contradiction(item, other, wish)
  }
  // Who provides a name with a version is the only one to do so.
  const taken = new Map(
    [...state.chosen.values()].flatMap((other) =>
      names(other)
        .filter(({ version }) => version !== undefined)
        .map(({ name }) => [name, other] as const),
    ),
  )
  for (const { name, version } of names(item)) {
    const other = version === undefined ? undefined : taken.get(name)
    if (other === undefined) continue
    throw new BuildError('E_INPUT', `${item.name} and ${other.name} both provide ${name}`, {
      because: told(wish),
      hint: `leave one of them out of EXTRA_PKGS, or forbid one: EXTRA_PKGS='!${other.name}'`,
    })
  }
  return { ...state, chosen: new Map([...state.chosen, [item.name, item]]) }
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

/** Most names that an error suggests. */
const NEAR_NAMES = 5

function nearNames(name: string, all: readonly string[]): string[] {
  const plain = all.filter((other) => !other.includes(':') && !other.startsWith('/'))
  return plain
    .map((other) => ({
      other,
      distance: other.startsWith(name) || name.startsWith(other) ? 1 : editDistance(name, other),
    }))
    .filter(({ distance }) => distance <= Math.max(1, Math.floor(name.length / 3)))
    .sort((a, b) => a.distance - b.distance || (a.other < b.other ? -1 : 1))
    .slice(0, NEAR_NAMES)
    .map(({ other }) => other)
}

/** Number of letters to add, drop or change. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1]
    for (let j = 0; j < b.length; j += 1) {
      const change = (row[j] ?? 0) + (letter === b[j] ? 0 : 1)
      next.push(Math.min(change, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    }
    row = next
  }
  return row.at(-1) ?? 0
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
      for (const { item: other, provided } of providers.get(dependency.name) ?? []) {
        if (chosen.get(other.name) === other && isMet(dependency, provided)) visit(other)
      }
    }
    ordered.add(item)
  }
  for (const item of [...chosen.values()].sort((a, b) => (a.name < b.name ? -1 : 1))) visit(item)
  return [...ordered]
}
