// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { imageRoot } from '../../../scripts/boot/root.ts'
import type { Manifest } from '../../../scripts/manifest.ts'

function manifest(result: Manifest['result']): Manifest {
  return { format: 'osbuilder-manifest-1', kind: 'image', name: 'x.img', fingerprint: '', inputs: {}, result }
}

t.test('a plain image is mounted from its partition, as the filesystem it is', async (t) => {
  t.strictSame(imageRoot(undefined, 'virtio-blk').words, [
    'root=/dev/vda1',
    'rootfstype=ext4',
    'ro',
    'rootwait',
  ])
  const erofs = manifest({ filesystem: { type: 'erofs', compression: 'lz4' } })
  t.strictSame(imageRoot(erofs, 'nvdimm').words.slice(0, 2), ['root=/dev/pmem0p1', 'rootfstype=erofs'])
  t.equal(imageRoot(erofs, 'nvdimm').compression, 'lz4')
})

t.test('a measured image is mounted from a device that the command line makes', async (t) => {
  const verity = {
    rootHash: 'aa',
    salt: 'bb',
    dataBlocks: 16,
    dataBlockSize: 4096,
    hashBlockSize: 4096,
    algorithm: 'sha256',
    hashType: 1,
  }
  t.strictSame(imageRoot(manifest({ filesystem: { type: 'ext4' }, verity }), 'virtio-blk').words, [
    'dm-mod.create="dm-verity,,,ro,0 128 verity 1 /dev/vda1 /dev/vda2 4096 4096 16 0 sha256 aa bb 1 panic_on_corruption"',
    'root=/dev/dm-0',
    'rootfstype=ext4',
    'ro',
  ])
})
