// SPDX-License-Identifier: Apache-2.0
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'

import t from 'tap'

import { sha256File } from '../../scripts/digest.ts'
import { hashBehind } from '../../scripts/hash-behind.ts'

const MIB = 1024 * 1024

t.test('the digest is that of the finished file, holes and all', async (t) => {
  const file = join(t.testdir(), 'file')
  const descriptor = openSync(file, 'w')
  const hash = hashBehind(file)
  ftruncateSync(descriptor, 20 * MIB)
  for (let at = 0; at < 18; at += 3) {
    writeSync(descriptor, Buffer.alloc(MIB, at + 1), 0, MIB, at * MIB)
    hash.reach((at + 1) * MIB)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  t.equal(await hash.digest(20 * MIB), sha256File(file))
  closeSync(descriptor)
  await hash.stop()
})

t.test('what goes through its buffers is hashed from them, and holes are not read', async (t) => {
  const file = join(t.testdir(), 'file')
  const descriptor = openSync(file, 'w')
  const hash = hashBehind(file)
  // More buffers than there are, so that they are used again.
  for (let part = 0; part < 40; part += 1) {
    const buffer = hash.take()
    buffer.fill(part + 1, 0, 1000 * (part + 1))
    const place = part * (MIB + 5)
    writeSync(descriptor, buffer, 0, 1000 * (part + 1), place)
    hash.written(1000 * (part + 1), place)
  }
  ftruncateSync(descriptor, 60 * MIB)
  hash.hole(60 * MIB)
  t.equal(await hash.digest(60 * MIB), sha256File(file))
  closeSync(descriptor)
})

t.test('what is not reached yet is not read', async (t) => {
  const file = join(t.testdir(), 'file')
  const descriptor = openSync(file, 'w')
  ftruncateSync(descriptor, 4 * MIB)
  const hash = hashBehind(file)
  hash.reach(MIB)
  await new Promise((resolve) => setTimeout(resolve, 100))
  writeSync(descriptor, Buffer.alloc(3 * MIB, 7), 0, 3 * MIB, MIB)
  t.equal(await hash.digest(4 * MIB), sha256File(file))
  closeSync(descriptor)
})

t.test('a file that ends too early is an error, and stopping ends the thread', async (t) => {
  const file = join(t.testdir(), 'file')
  closeSync(openSync(file, 'w'))
  const short = hashBehind(file)
  short.reach(MIB)
  await t.rejects(short.digest(MIB), /shorter/)
  const left = hashBehind(file)
  await left.stop()
  t.pass('stopped')
})
