/** Two rtnetlink handles, one at home and one on a second namespace, and `ip` as the judge. Every test begins without links. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { after, afterEach } from 'node:test'
import { type Cidr, type Ip, type IpPrefix, type Mac, parseCidr, parseIp, parseIpPrefix, parseMac } from '../../src/base/address.ts'
import { NetError } from '../../src/base/errors.ts'
import { openRtnl } from '../../src/kernel/rtnl.ts'
import type { Rtnl } from '../../src/kernel/types.ts'
import type { LinkSpec, Step } from '../../src/model/kernel-state.ts'
import { closeNetns, createNetns, initNetns, type Netns, openNetns, removeNetns } from '../../src/sys/netns.ts'

export const ip = (text: string): Ip => parseIp(text)
export const net = (text: string): Cidr => parseCidr(text)
export const at = (text: string): IpPrefix => parseIpPrefix(text)
export const mac = (text: string): Mac => parseMac(text)

// biome-ignore lint/suspicious/noExplicitAny: what the judge prints has no type
export type Json = any

/** What a command of iproute2 prints with `-j`. */
export function json(command: string): Json {
  const run = spawnSync('sh', ['-c', command], { encoding: 'utf8' })
  assert.equal(run.status, 0, `${command}: ${run.stderr}`)
  return JSON.parse(run.stdout === '' ? '[]' : run.stdout).filter((row: object) => Object.keys(row).length > 0)
}

export interface RtnlLab {
  /** The handle on the test's own namespace. */
  readonly home: Rtnl
  /** A second namespace, and the handle on it. */
  readonly ns: Netns
  readonly there: Rtnl
  /** A scratch directory for further namespaces. */
  readonly dir: string
  /** The prefix that runs a command in the second namespace. */
  readonly inside: string
}

/** Call after isolate(). Takes every link away after each test, and everything else after the last. */
export async function openRtnlLab(): Promise<RtnlLab> {
  await initNetns()
  const dir = mkdtempSync('/tmp/causeway-rtnl-')
  createNetns(`${dir}/a`)
  const ns = openNetns(`${dir}/a`)
  const home = openRtnl()
  const there = openRtnl(ns)
  afterEach(() => {
    for (const rtnl of [home, there])
      for (const link of rtnl.links())
        if (!link.loopback && rtnl.link(link.index) !== undefined) rtnl.apply([{ op: 'link.delete', dev: link.name }])
  })
  after(() => {
    home.close()
    there.close()
    closeNetns(ns)
    removeNetns(`${dir}/a`)
    rmSync(dir, { recursive: true })
  })
  return { home, ns, there, dir, inside: `nsenter --net=${ns.path}` }
}

/** A link as `ip` sees it, in the namespace that a command prefix leads to. */
export const judge = (name: string, prefix = ''): Json => json(`${prefix} ip -d -j link show dev ${name}`)[0]

export const add = (link: LinkSpec): Step => ({ op: 'link.add', link })
export const bridge = (name: string): Step => add({ name, kind: 'bridge', up: true })

/** The error that `fn` throws; none is a failure of the test. */
export function failure(fn: () => void): NetError {
  try {
    fn()
  } catch (error) {
    assert.ok(error instanceof NetError, String(error))
    return error
  }
  return assert.fail('expected an error')
}
