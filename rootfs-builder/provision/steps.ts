// SPDX-License-Identifier: Apache-2.0
import { installAgent } from './agent.ts'
import { installAgentUnits } from './agent-units.ts'
import { installArchives } from './archives.ts'
import { configureChrony } from './chrony.ts'
import { configureConfidential } from './confidential.ts'
import type { ProvisionStep } from './context.ts'
import { forgetHost } from './forget-host.ts'
import { installKernelModules } from './kernel-modules.ts'
import { makeMountPoints } from './mount-points.ts'
import { dropPackageDatabase } from './package-database.ts'
import { installPolicy } from './policy.ts'
import { removeUnits } from './remove-units.ts'
import { checkSelinux } from './selinux.ts'
import { writeSummary } from './summary.ts'
import { configureTmpMount } from './tmp-mount.ts'
import { layUserFiles } from './user-files.ts'

/** What turns a distro's tree into a guest, in the order it is done. */
export const PROVISION_STEPS: readonly ProvisionStep[] = [
  { name: 'forget what the build host left', run: forgetHost },
  { name: 'mount points and resolv.conf', run: makeMountPoints },
  { name: '/tmp in memory', run: configureTmpMount },
  { name: 'time from the host', run: configureChrony },
  { name: 'kernel modules', run: installKernelModules },
  { name: 'archives', run: installArchives },
  { name: 'agent', run: installAgent },
  { name: 'agent units', run: installAgentUnits },
  { name: 'agent policy', run: installPolicy },
  { name: 'confidential guest', run: configureConfidential },
  { name: 'unneeded units', run: removeUnits },
  { name: "the user's own files", run: layUserFiles },
  { name: 'policy of SELinux', run: checkSelinux },
  { name: 'package database', run: dropPackageDatabase },
  { name: 'summary', run: writeSummary },
]
