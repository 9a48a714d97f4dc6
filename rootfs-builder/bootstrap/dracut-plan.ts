// SPDX-License-Identifier: Apache-2.0
import { bootstrapDracut, planDracut } from '../../dracut/dracut.ts'
import type { Settings } from '../../scripts/settings.ts'
import type { BasePlan } from './plan.ts'

/** Plan a base tree that dracut takes from this host. */
export async function planFromHost(settings: Settings): Promise<BasePlan> {
  const tree = await planDracut(settings)
  return {
    inputs: tree.inputs,
    code: ['dracut', 'rootfs-builder/bootstrap'],
    tools: ['dracut'],
    epochSeconds: tree.host.epochSeconds,
    checkedAtMs: Date.now(),
    packages: [],
    indexes: [{ host: tree.host.title, ...tree.host.digests }],
    skipped: [],
    guestSources: [],
    bootstrap: (targetDir, tarFile, options) => bootstrapDracut(tree, targetDir, tarFile, options),
    installed: () => [],
  }
}
