// SPDX-License-Identifier: Apache-2.0
import { seconds } from '../scripts/log.ts'

/** Lines of the kernel's make that stand for one compiled file. */
const COMPILED = /^ {2}(CC|AS)( \[M\])? +/

/** Files that an object is made of when nothing else is known: measured over several configurations. */
const FILES_PER_SYMBOL = 2.1

/** How often a plain line is printed when the output is no terminal. */
const PLAIN_STEPS = 10

export interface Progress {
  /** Take one line of the compiler's output. */
  readonly line: (text: string) => void
  /** End the line; returns how many files were compiled. */
  readonly end: () => number
}

/** How many files a configuration will compile, when it was never compiled before. */
export function estimateFiles(symbolCount: number): number {
  return Math.round(symbolCount * FILES_PER_SYMBOL)
}

export interface ProgressRequest {
  readonly title: string
  /** How many files there will be, about. */
  readonly about: number
  readonly isTerminal: boolean
  readonly write: (text: string) => void
  readonly nowMs: () => number
}

/** One line that tells how far a build is: rewritten on a terminal, now and then elsewhere. */
export function startProgress(request: ProgressRequest): Progress {
  const { title, about, isTerminal, write, nowMs } = request
  const startMs = nowMs()
  let done = 0
  let shownMs = 0
  let shownStep = 0
  const show = (): void => {
    const text = progressText({ title, about, done, elapsedMs: nowMs() - startMs })
    write(isTerminal ? `\r${text}\u001b[K` : `${text}\n`)
  }
  return {
    line: (text) => {
      if (!COMPILED.test(text)) return
      done += 1
      const step = Math.floor((done * PLAIN_STEPS) / Math.max(about, 1))
      const isDue = isTerminal ? nowMs() - shownMs > 200 : step > shownStep && step < PLAIN_STEPS
      if (!isDue) return
      shownMs = nowMs()
      shownStep = step
      show()
    },
    end: () => {
      if (isTerminal && done > 0) write('\r\u001b[K')
      return done
    },
  }
}

/** `  KERNEL  6.1.192 x86_64   612 of about 1100 files   1 min 20 s left` */
export function progressText(of: {
  readonly title: string
  readonly about: number
  readonly done: number
  readonly elapsedMs: number
}): string {
  const { title, done, elapsedMs } = of
  const about = Math.max(of.about, done)
  const leftMs = done === 0 ? 0 : (elapsedMs / done) * (about - done)
  const left = done < 20 || leftMs <= 0 ? '' : `   ${duration(leftMs)} left`
  return `  KERNEL  ${title}   ${String(done)} of about ${String(about)} files${left}`
}

function duration(milliseconds: number): string {
  const whole = Math.round(milliseconds / 1000)
  if (whole < 60) return seconds(whole * 1000).replace('.0', '')
  return `${String(Math.floor(whole / 60))} min ${String(whole % 60)} s`
}
