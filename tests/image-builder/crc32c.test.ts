// SPDX-License-Identifier: Apache-2.0
import t from 'tap'

import { crc32c, crc32cOfUint32 } from '../../image-builder/filesystem/crc32c.ts'

t.test('the checksum is that of RFC 3720, without its last inversion', async (t) => {
  // Source: RFC 3720, appendix B.4, and the check value of the CRC catalogue.
  t.equal(crc32c(0xffffffff, Buffer.from('123456789')), ~0xe3069283 >>> 0)
  t.equal(crc32c(0xffffffff, new Uint8Array(32)), ~0x8a9136aa >>> 0)
  t.equal(crc32c(0xffffffff, new Uint8Array(32).fill(0xff)), ~0x62a8ab43 >>> 0)
})

t.test('a checksum continues over parts of any length and place', async (t) => {
  const bytes = Uint8Array.from({ length: 100 }, (_, index) => index * 7)
  const whole = crc32c(1, bytes)
  for (let split = 0; split <= bytes.length; split++) {
    t.equal(crc32c(crc32c(1, bytes.subarray(0, split)), bytes.subarray(split)), whole)
  }
})

t.test('a number is taken as its four little-endian bytes', async (t) => {
  t.equal(crc32cOfUint32(5, 0x89abcdef), crc32c(5, Buffer.from('efcdab89', 'hex')))
})
