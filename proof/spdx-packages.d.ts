// SPDX-License-Identifier: Apache-2.0

/** The parts of the licence packages that osbuilder uses; they bring no types. */
declare module 'spdx-expression-parse' {
  /** Throws when the text is no SPDX licence expression. */
  export default function parse(expression: string): unknown
}
