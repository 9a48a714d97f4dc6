// SPDX-License-Identifier: Apache-2.0
import { managerOf } from '../../rootfs-builder/distros.ts'
import type { ArchName } from '../arch.ts'
import { epochSeconds } from '../epoch.ts'
import { BuildError } from '../errors.ts'
import type { ToolTarget } from '../host-tools.ts'
import { hostArch } from '../settings.ts'
import type { Settings } from '../settings.ts'
import type { Step, StepArguments } from '../step.ts'
import { cleanUpOnSignals } from '../temporary.ts'
import { openWorkspace, removeLeftovers } from '../workspace.ts'
import { runApart } from './apart.ts'
import { BUILDER_NODE, builderImage } from './builder-image.ts'
import { SIGNALS, UNTIL_GONE, removeContainer, startContainer } from './container.ts'
import type { Job } from './container.ts'
import { endedEarly, openEngine } from './engine.ts'
import type { EngineName } from './engine.ts'
import { environmentOf, mountsOf, placesOf } from './places.ts'
import type { MovableStep } from './places.ts'
import type { ContainerStep } from './privileges.ts'

/** Holds the step in the container to the one outside. */
const HOLD = [
  'exec 3<&0; trap \'kill -TERM "$child"\' TERM INT',
  '"$@" </dev/null & child=$!',
  `(${UNTIL_GONE} <&3; kill -TERM "$child" 2>/dev/null) &`,
  // A signal ends the waiting, not the step: that cleans up first.
  'wait "$child"; status=$?; while kill -0 "$child" 2>/dev/null; do wait "$child"; status=$?; done; exit "$status"',
].join('\n')

/** Do the step that this process was started for in a container of the engine. Returns its exit status. */
export async function runInContainer(
  name: EngineName,
  step: Step,
  settings: Settings,
  given: StepArguments,
): Promise<number> {
  if (!isMovable(step)) throw new TypeError(`step ${step.name} is not for containers`)
  cleanUpOnSignals()
  refuseHostRepositories(settings)
  const engine = await openEngine(name, settings)
  const workspace = openWorkspace(settings)
  const places = placesOf(step, settings, workspace, given)
  removeLeftovers(workspace)
  const kind = step.container.step
  const distro = (kind === 'rootfs' ? given.positional[0] : undefined) ?? settings.DISTRO
  const targets = targetsOf(kind, { ...settings, DISTRO: distro }, engine.arch ?? hostArch())
  const image = await builderImage(engine, settings, workspace, targets)
  // From here on a signal ends the container, and that ends us.
  for (const signal of SIGNALS) process.removeAllListeners(signal)
  const clock = await epochSeconds(settings, () => -1)
  const job: Job = {
    engine,
    image,
    container: `osbuilder-${kind}-${String(process.pid)}-${String(Date.now())}`,
    step: kind,
    environment: environmentOf(settings, engine.arch, clock < 0 ? undefined : clock),
    settings,
  }
  if (engine.isApart) return runApart(job, places, workspace)
  const child = await startContainer(job, mountsOf(places), HOLD, [BUILDER_NODE, ...places.argv])
  const status = await child.exit
  if (status === 0) return 0
  // A step that fails removes what it began; one that was killed cannot.
  removeLeftovers(workspace, 'own too')
  if (![125, 126, 127, 137].includes(status)) return status
  // The engine could not start it, or it is gone, or somebody killed the container.
  await removeContainer(job)
  const reason = await endedEarly(engine, job.container)
  // What lost its engine may have gone on for a moment.
  removeLeftovers(workspace, 'own too')
  if (status === 137 || reason.because.length > 0) throw reason
  throw new BuildError('E_COMMAND', `${name} could not run the step`, { hint: 'what it said is above' })
}

/** @throws BuildError E_CONFIG when the guest is to come from what this host has, and a container has not */
function refuseHostRepositories(settings: Pick<Settings, 'DISTRO_REPO'>): void {
  if (!settings.DISTRO_REPO) return
  throw new BuildError('E_CONFIG', 'DISTRO_REPO=yes: a container has no repositories of this host', {
    hint: 'leave DISTRO_REPO out and name a mirror with REPO_URL, or leave out USE_DOCKER and USE_PODMAN',
  })
}

function isMovable(step: Step): step is MovableStep {
  return step.container !== undefined
}

/**
 * What the builder of a step has: the tools of all steps, and those of some settings.
 *
 * @param machine architecture of the engine's machine, where a guest may be a foreign one
 */
export function targetsOf(
  step: ContainerStep,
  settings: Pick<Settings, 'ARCH' | 'BUILD_METHOD' | 'DISTRO' | 'REMOTE_CACHE'>,
  machine: ArchName,
): ToolTarget[] {
  const arch = settings.ARCH === 'host' ? hostArch() : settings.ARCH
  const manager = managerOf(settings)
  const foreign: ToolTarget[] = arch === machine ? [] : [`foreign-${arch}`]
  if (step === 'kernel') return ['kernel', ...foreign]
  return [
    ...(['rootfs', 'image', 'xfs', 'squashfs', 'signing', 'initrd'] as const),
    ...(manager === 'dracut' || manager === 'dnf' ? [manager] : []),
    ...(settings.REMOTE_CACHE === '' ? [] : (['remote-cache'] as const)),
    // A packer runs nothing of the guest, and packs all of them alike.
    ...(step === 'rootfs' ? foreign : []),
  ]
}
