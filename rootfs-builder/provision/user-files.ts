// SPDX-License-Identifier: Apache-2.0
import { overlay } from '../guest.ts'
import type { ProvisionContext } from './context.ts'

/** Lay the user's own files over the guest: after everything of ours, so that theirs win. */
export function layUserFiles({ guest, settings }: ProvisionContext): void {
  if (settings.ROOTFS_OVERLAY !== '') overlay(guest, settings.ROOTFS_OVERLAY)
}
