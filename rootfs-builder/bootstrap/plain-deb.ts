// SPDX-License-Identifier: Apache-2.0
import { closeSync, fstatSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename } from 'node:path'

import { BuildError } from '../../scripts/errors.ts'
import { startWorker } from '../../scripts/pipes.ts'
import type { Worker } from '../../scripts/pipes.ts'

const AR_START = '!<arch>\n'

/** A header of an ar archive: name, time, owner, group, mode, size, end mark. Source: ar(5). */
const HEADER = { bytes: 60, nameAt: 0, nameBytes: 16, sizeAt: 48, sizeBytes: 10 } as const

/** For each package and target that it is told: the files of the package, as they are, behind what the target has. */
const UNPACKER = [
  "while IFS= read -r -d '' package && IFS= read -r -d '' target; do",
  '  dpkg-deb --fsys-tarfile "$package" >> "$target"',
  '  echo',
  'done',
].join('\n')

export interface PlainDebs {
  /**
   * Store a package anew.
   *
   * @param target path of a new file
   * @throws BuildError E_INPUT when it is no Debian package
   */
  readonly store: (file: string, target: string) => Promise<void>
  readonly end: () => void
}

/**
 * Store Debian packages with their files uncompressed, as many at once as there are processors, so that who
 * unpacks one twice, as those of the essential set are, need not decompress it twice while others wait.
 *
 * The rest of it, control data too, stays as it is. Source: deb(5).
 */
export function startPlainDebs(): PlainDebs {
  const workers = Array.from({ length: availableParallelism() }, () =>
    // Without --norc a bash that reads a socket, as our pipes are, takes itself for one of a remote shell.
    startWorker(['bash', '--norc', '-euc', UNPACKER]),
  )
  const free = [...workers]
  const waiting: ((worker: Worker) => void)[] = []
  const borrow = (): Promise<Worker> => {
    const worker = free.pop()
    return worker === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(worker)
  }
  const giveBack = (worker: Worker): void => {
    const next = waiting.shift()
    if (next === undefined) free.push(worker)
    else next(worker)
  }
  return {
    store: async (file, target) => {
      const head = readHead(file)
      writeFileSync(target, head, { flag: 'wx' })
      const worker = await borrow()
      try {
        await worker.ask(file, target)
      } finally {
        giveBack(worker)
      }
      finishHeader(target, head.length)
    },
    end: () => {
      for (const worker of workers) worker.end()
    },
  }
}

/** Name and size of the member that holds the files, whose content begins here. */
function finishHeader(target: string, contentAt: number): void {
  const output = openSync(target, 'r+')
  try {
    const sizeBytes = fstatSync(output).size - contentAt
    // Members begin at even places.
    if (sizeBytes % 2 === 1) writeSync(output, '\n', contentAt + sizeBytes)
    const header = contentAt - HEADER.bytes
    writeSync(output, 'data.tar'.padEnd(HEADER.nameBytes), header + HEADER.nameAt)
    writeSync(output, String(sizeBytes).padEnd(HEADER.sizeBytes), header + HEADER.sizeAt)
  } finally {
    closeSync(output)
  }
}

/** All up to the content of the member that holds the files. */
function readHead(file: string): Buffer {
  const input = openSync(file, 'r')
  try {
    const read = (at: number, length: number): Buffer => {
      const buffer = Buffer.alloc(length)
      return buffer.subarray(0, readSync(input, buffer, 0, length, at))
    }
    const header = (at: number): { name: string; sizeBytes: number } => {
      const text = read(at, HEADER.bytes).toString('latin1')
      const size = text.slice(HEADER.sizeAt, HEADER.sizeAt + HEADER.sizeBytes).trim()
      if (!/^\d+$/.test(size)) throw noPackage(file)
      return { name: text.slice(HEADER.nameAt, HEADER.nameBytes), sizeBytes: Number(size) }
    }
    if (read(0, AR_START.length).toString('latin1') !== AR_START) throw noPackage(file)
    let at = AR_START.length
    for (let member = header(at); !member.name.startsWith('data.tar'); member = header(at)) {
      at += HEADER.bytes + member.sizeBytes + (member.sizeBytes % 2)
    }
    return read(0, at + HEADER.bytes)
  } finally {
    closeSync(input)
  }
}

function noPackage(file: string): BuildError {
  return new BuildError('E_INPUT', `${basename(file)}: is no Debian package`, {
    hint: 'look at it with: dpkg-deb --info',
  })
}
