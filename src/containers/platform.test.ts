import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NetError } from '../base/errors.ts'
import { choosePlatform, parsePlatform, showPlatform } from './platform.ts'

const entry = (architecture: string, variant?: string, os = 'linux') => ({
  platform: { os, architecture, ...(variant === undefined ? {} : { variant }) },
})
const INDEX = [
  entry('unknown', undefined, 'unknown'),
  entry('amd64'),
  entry('arm', 'v5'),
  entry('arm', 'v7'),
  entry('arm64', 'v8'),
  entry('386'),
]
const chosen = (asked: string, index: readonly ReturnType<typeof entry>[] = INDEX) => {
  const found = choosePlatform(index, parsePlatform(asked))?.platform
  return found === undefined ? undefined : [found.architecture, found.variant].filter(Boolean).join('/')
}

test('platform: the entry that was asked for is chosen, and an older arm where there is no equal one', () => {
  assert.deepEqual(
    ['linux/amd64', 'linux/x86_64', 'linux/arm64', 'linux/arm64/v8', 'linux/aarch64'].map((asked) => chosen(asked)),
    ['amd64', 'amd64', 'arm64/v8', 'arm64/v8', 'arm64/v8'],
  )
  assert.deepEqual(
    ['linux/arm', 'linux/arm/v7', 'linux/arm/v6', 'linux/arm/v5'].map((asked) => chosen(asked)),
    ['arm/v7', 'arm/v7', 'arm/v5', 'arm/v5'],
  )
  assert.equal(chosen('linux/arm64', [entry('arm64')]), 'arm64')
  assert.equal(chosen('linux/arm64/v8', [entry('arm64')]), 'arm64')
  assert.deepEqual(
    ['linux/riscv64', 'windows/amd64', 'linux/arm64/v9'].map((asked) => chosen(asked)),
    [undefined, undefined, undefined],
  )
})

test('platform: what is none is refused', () => {
  for (const wrong of ['', '/', 'linux/a b', 'linux/arm/v7/x', 'linux//v7/']) assert.throws(() => parsePlatform(wrong), NetError, wrong)
  assert.equal(showPlatform(parsePlatform('Linux/ARM64/V8')), 'linux/arm64/v8')
})
