// SPDX-License-Identifier: Apache-2.0

/**
 * What builder images are made from, pinned by digest.
 *
 * One base serves every distro of guests: Debian packages mmdebstrap, dnf and all other tools, and apk's
 * packages are installed by our own code.
 */
export const BASE_IMAGE = {
  name: 'library/debian',
  /** Index of all architectures of debian:bookworm-20261005-slim, as pinned in public projects; not pulled by us. */
  digest: 'sha256:7c7b2c966bc9ee8cedfeef67e0e279108992c77681fa595db4a9d65c06ccc587',
} as const

/** Reference of the base image in a registry. */
export function baseReference(registry: string): string {
  return `${registry.replace(/\/+$/, '')}/${BASE_IMAGE.name}@${BASE_IMAGE.digest}`
}
