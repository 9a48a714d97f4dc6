// SPDX-License-Identifier: Apache-2.0

// Of its own, so that it is loaded when something is downloaded. The package is CommonJS: of one that is loaded
// by name alone a bundle does not know what it exports.
export { EnvHttpProxyAgent, interceptors, request } from 'undici'
