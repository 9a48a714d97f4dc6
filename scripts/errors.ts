// SPDX-License-Identifier: Apache-2.0

/** Exit status of a step by kind of failure. Source: sysexits.h. */
const EXIT_STATUS = {
  E_USAGE: 64,
  E_DIGEST: 65,
  E_INPUT: 66,
  E_TOOL_MISSING: 69,
  E_INTERNAL: 70,
  E_FULL: 73,
  E_COMMAND: 1,
  E_BOOT: 1,
  E_NETWORK: 75,
  E_SIGNATURE: 76,
  E_PERMISSION: 77,
  E_CONFIG: 78,
} as const

export type ErrorCode = keyof typeof EXIT_STATUS

export interface BuildErrorDetails {
  /** What the user types or looks at next. */
  readonly hint?: string
  /** Lines that explain the failure: found and expected values, the end of a log. */
  readonly because?: readonly string[]
  readonly cause?: unknown
}

/** A failure the user can act on. Anything else that is thrown is a bug and keeps its stack. */
export class BuildError extends Error {
  override readonly name = 'BuildError'
  readonly code: ErrorCode
  readonly hint: string | undefined
  readonly because: readonly string[]

  constructor(code: ErrorCode, message: string, details: BuildErrorDetails = {}) {
    super(message, { cause: details.cause })
    this.code = code
    this.hint = details.hint
    this.because = details.because ?? []
  }

  get exitStatus(): number {
    return EXIT_STATUS[this.code]
  }
}

/** The errno name (`ENOENT`, `ENOSPC`) of a failed system call, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

/** True for an error of the system that says that a disk, or a user's part of it, is full. */
export function isFullDisk(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes(errnoOf(error) ?? '')
}
