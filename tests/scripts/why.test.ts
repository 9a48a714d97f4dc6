// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { changedInputs } from '../../scripts/why.ts'

const INPUTS = {
  base: {
    packages: ['chrony', 'init'],
    suites: [
      { suite: 'bookworm', sha256: '1' },
      { suite: 'bookworm-security', sha256: '2' },
    ],
    tools: { mmdebstrap: '1.3.5' },
    code: 'a',
    epochSeconds: 5,
  },
  settings: { AGENT_INIT: false, EXTRA_PKGS: [], ROOT_FREE_SPACE: undefined },
  files: { AGENT_SOURCE_BIN: 'x' },
  agent: { kind: 'bundled', sha256: '1' },
  epochSeconds: 7,
  rootfs: 'stamp',
}

t.test('each kind of change is told in the words of the user', (t) => {
  const cases: readonly [unknown, string][] = [
    [{ ...INPUTS, settings: { ...INPUTS.settings, AGENT_INIT: true } }, 'setting AGENT_INIT: no -> yes'],
    [
      { ...INPUTS, settings: { ...INPUTS.settings, EXTRA_PKGS: ['curl'] } },
      'setting EXTRA_PKGS: (none) -> curl',
    ],
    [
      { ...INPUTS, settings: { ...INPUTS.settings, ROOT_FREE_SPACE: 5 } },
      'setting ROOT_FREE_SPACE: (none) -> 5',
    ],
    [{ ...INPUTS, base: { ...INPUTS.base, packages: ['chrony', 'curl'] } }, 'packages: +curl -init'],
    [{ ...INPUTS, base: { ...INPUTS.base, tools: { mmdebstrap: '1.4' } } }, 'tool mmdebstrap: 1.3.5 -> 1.4'],
    [
      {
        ...INPUTS,
        base: {
          ...INPUTS.base,
          suites: [INPUTS.base.suites[0], { suite: 'bookworm-security', sha256: '3' }],
        },
      },
      'index of bookworm-security changed',
    ],
    [{ ...INPUTS, base: { ...INPUTS.base, code: 'b' } }, "osbuilder's own code changed"],
    [{ ...INPUTS, files: { AGENT_SOURCE_BIN: 'y' } }, 'the file of AGENT_SOURCE_BIN changed'],
    [{ ...INPUTS, agent: { kind: 'bundled', sha256: '2' } }, 'the agent changed'],
    [{ ...INPUTS, epochSeconds: 8 }, 'SOURCE_DATE_EPOCH: 7 -> 8'],
    [{ ...INPUTS, rootfs: 'other' }, 'its rootfs changed'],
  ]
  for (const [after, said] of cases) {
    t.strictSame(changedInputs(INPUTS, after as typeof INPUTS), [said])
  }
  t.strictSame(changedInputs(INPUTS, structuredClone(INPUTS)), [])
  t.end()
})
