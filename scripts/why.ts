// SPDX-License-Identifier: Apache-2.0
import type { Json } from './digest.ts'
import { report } from './log.ts'

type Table = Readonly<Record<string, Json>>

/** One input that differs between two builds. */
interface Difference {
  readonly path: readonly string[]
  readonly before: Json
  readonly after: Json
}

/**
 * Which inputs differ, in the words of a user: settings, files, packages, tools.
 *
 * @param before `inputs` of the manifest of the last build
 * @param after inputs of the build to come
 */
export function changedInputs(before: Json, after: Json): string[] {
  return [...new Set(differences(before, after, []).map(inWords))]
}

function differences(before: Json, after: Json, path: readonly string[]): Difference[] {
  if (JSON.stringify(before) === JSON.stringify(after)) return []
  if (!isTable(before) || !isTable(after)) return [{ path, before, after }]
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])]
  return names.flatMap((name) => differences(before[name], after[name], [...path, name]))
}

function isTable(value: Json): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What the inputs of our steps are called, by the end of their path. The first that fits is taken. */
const WORDS: readonly {
  readonly path: RegExp
  readonly say: (difference: Difference, name: string) => string
}[] = [
  { path: /(^|\.)code$/, say: () => "osbuilder's own code changed" },
  { path: /^base\.extra$/, say: ({ before, after }) => `EXTRA_PKGS: ${listChange(before, after)}` },
  { path: /(^|\.)packages$/, say: ({ before, after }) => `packages: ${listChange(before, after)}` },
  { path: /(^|\.)suites$/, say: ({ before, after }) => `index of ${changedSuites(before, after)} changed` },
  { path: /(^|\.)keyring$/, say: () => 'the keyring changed' },
  { path: /(^|\.)tools\.[^.]+$/, say: (difference, name) => `tool ${name}: ${change(difference)}` },
  { path: /(^|\.)settings\.[^.]+$/, say: (difference, name) => `setting ${name}: ${change(difference)}` },
  { path: /(^|\.)files\.[^.]+$/, say: (_, name) => `the file of ${name} changed` },
  { path: /^base\.epochSeconds$/, say: () => 'the date of the index changed' },
  { path: /^base\.suite$/, say: (difference) => `setting OS_VERSION: ${change(difference)}` },
  { path: /^base\.debianArch$/, say: (difference) => `setting ARCH: ${change(difference)}` },
  { path: /^base\.components$/, say: (difference) => `setting REPO_COMPONENTS: ${change(difference)}` },
  { path: /^base\.keepDocs$/, say: (difference) => `setting KEEP_DOCS: ${change(difference)}` },
  { path: /^epochSeconds$/, say: (difference) => `SOURCE_DATE_EPOCH: ${change(difference)}` },
  { path: /^version$/, say: (difference) => `OSBUILDER_VERSION: ${change(difference)}` },
  { path: /^modules$/, say: () => 'the files of KERNEL_MODULES_DIR changed' },
  { path: /^agent\.sha256$/, say: () => 'the agent changed' },
  { path: /^agent\.kind$/, say: (difference) => `where the agent comes from: ${change(difference)}` },
  { path: /^overlay$/, say: () => 'the files of ROOTFS_OVERLAY changed' },
  { path: /^rootfs$/, say: () => 'its rootfs changed' },
]

function inWords(difference: Difference): string {
  const path = difference.path.join('.')
  const words = WORDS.find((candidate) => candidate.path.test(path))
  return words?.say(difference, difference.path.at(-1) ?? '') ?? `${path}: ${change(difference)}`
}

function change({ before, after }: Difference): string {
  return `${shown(before)} -> ${shown(after)}`
}

function shown(value: Json): string {
  if (value === undefined || value === null || value === '') return '(none)'
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (Array.isArray(value)) return value.length === 0 ? '(none)' : value.map(shown).join(' ')
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}

function words(value: Json): string[] {
  return Array.isArray(value) ? value.map((item: Json) => shown(item)) : []
}

/** `+curl -chrony` */
function listChange(before: Json, after: Json): string {
  const [old, now] = [words(before), words(after)]
  const added = now.filter((word) => !old.includes(word)).map((word) => `+${word}`)
  const removed = old.filter((word) => !now.includes(word)).map((word) => `-${word}`)
  return [...added, ...removed].join(' ') || 'their order changed'
}

function changedSuites(before: Json, after: Json): string {
  const rows = (value: Json): Map<string, string> =>
    new Map(
      (Array.isArray(value) ? (value as readonly Json[]) : [])
        .filter(isTable)
        .map((row) => [shown(row['suite']), JSON.stringify(row)]),
    )
  const [old, now] = [rows(before), rows(after)]
  const names = [...new Set([...old.keys(), ...now.keys()])]
  return names.filter((name) => old.get(name) !== now.get(name)).join(', ')
}

/** Width of the column of stages. Unit: characters. */
const STAGE_WIDTH = 12

/** One line of `make why`: a stage, what becomes of it, and if it is built, what changed. */
export function tellStage(
  stage: string,
  what: 'reused' | 'built' | 'asked',
  because: readonly string[],
): void {
  report('WHY', `${stage.padEnd(STAGE_WIDTH)} ${what.padEnd(6)}`, because.join('; '))
}
