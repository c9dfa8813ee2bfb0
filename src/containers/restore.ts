/** Taking up the containers of an engine that ended, whether it said goodbye or was killed. */
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { messageOf } from '../base/errors.ts'
import { isProcess } from '../sys/process.ts'
import { forgetUnfinished, unfinishedVolumes } from './creation.ts'
import type { ContainerDeps } from './deps.ts'
import { readExit } from './exit-watch.ts'
import type { Lifecycle } from './lifecycle.ts'
import type { Monitor } from './monitor.ts'
import type { ContainerNetwork } from './network.ts'
import type { ContainerRecord } from './record.ts'
import type { Entry, Registry } from './registry.ts'
import { restartPolicyOf, startsWithEngine } from './restart.ts'
import type { Runtimes } from './runtimes.ts'
import { byTime, ZERO_TIME } from './time.ts'

export interface RestoreParts {
  readonly deps: ContainerDeps
  readonly registry: Registry
  readonly monitor: Monitor
  readonly runtimes: Runtimes
  readonly network: ContainerNetwork
  readonly lifecycle: Lifecycle
  readonly newEntry: (record: ContainerRecord) => Entry
  readonly remove: (entry: Entry) => Promise<void>
}

export class Restorer {
  readonly #p: RestoreParts
  #pending: Entry[] = []

  constructor(parts: RestoreParts) {
    this.#p = parts
  }

  /** Loads all records, re-watches what lives, notes what ended meanwhile, removes what was half-made. Returns the live ids. */
  async restore(): Promise<Set<string>> {
    const { registry, lifecycle, network, newEntry } = this.#p
    for (const record of registry.stored()) registry.add(newEntry(record), true)
    const alive = new Set<string>()
    const ended: (() => Promise<void>)[] = []
    for (const entry of registry.all()) {
      const { record } = entry
      const { live } = record
      if (record.state.status === 'removing') {
        // the removal had begun: nobody expects this container to come back
        registry.update(entry, { state: { ...record.state, status: 'dead' } })
        ended.push(() => this.#p.remove(entry))
        continue
      }
      if (live === undefined) {
        if (record.state.status === 'restarting') {
          registry.update(entry, { state: { ...record.state, status: 'exited' } })
          this.#pending.push(entry)
        } else if (this.#wants(entry)) this.#pending.push(entry)
        continue
      }
      const exit = readExit(lifecycle.exitDir, record.id)
      if (exit === undefined && (isProcess(live.monitorPid, live.monitorStartTime) || isProcess(live.pid, live.startTime))) {
        alive.add(record.id)
        alive.add(network.ownerIdOf(record))
        lifecycle.adopt(entry, live)
      } else ended.push(() => lifecycle.ended(entry, live, exit ?? { code: undefined, at: 0 }, true))
    }
    for (const finish of ended) await finish().catch((error) => this.#p.deps.log.warn(messageOf(error)))
    for (const entry of registry.all()) {
      if (entry.record.live === undefined && !this.#pending.includes(entry) && this.#wants(entry)) this.#pending.push(entry)
    }
    await this.#sweep()
    return alive
  }

  #wants(entry: Entry): boolean {
    const { hostConfig, manuallyStopped, state } = entry.record
    return startsWithEngine(restartPolicyOf(hostConfig), manuallyStopped, state.exitCode, state.startedAt !== ZERO_TIME)
  }

  /** Starts, in order of creation, what its policy wants. Targets of links come first. */
  async startPending(): Promise<void> {
    const pending = this.#pending.sort((a, b) => byTime(a.record.created, b.record.created))
    this.#pending = []
    const started = new Set<Entry>()
    const start = async (entry: Entry): Promise<void> => {
      if (started.has(entry)) return
      started.add(entry)
      for (const { target } of entry.record.links) {
        const other = pending.find((e) => e.record.id === target)
        if (other !== undefined) await start(other)
      }
      const owner = pending.find((e) => e.record.id === this.#p.network.ownerIdOf(entry.record))
      if (owner !== undefined) await start(owner)
      await this.#p.lifecycle.start(entry).catch((error) => this.#p.deps.log.warn(messageOf(error), { container: entry.record.id }))
    }
    for (const entry of pending) await start(entry)
  }

  /** Removes bundles, processes, layers and folders that belong to no container, or to one that does not run. */
  async #sweep(): Promise<void> {
    const { deps, registry, monitor, runtimes, lifecycle } = this.#p
    const names = (dir: string) => (existsSync(dir) ? readdirSync(dir) : [])
    const isLive = (id: string) => registry.find(id)?.record.live !== undefined
    const known = new Map(runtimes.known().map(({ id, runtime }) => [id, runtime]))
    const half = new Set([...names(`${deps.run}/bundles`), ...known.keys()].filter((id) => !isLive(id)))
    for (const id of half) {
      const entry = registry.find(id)
      if (entry !== undefined) await lifecycle.discard(entry)
      else await monitor.delete(id, known.get(id) ?? runtimes.default)
      rmSync(`${deps.run}/bundles/${id}`, { recursive: true, force: true })
      deps.log.info('removed a half-started container', { container: id })
    }
    for (const name of unfinishedVolumes(deps.store, (id) => registry.find(id) !== undefined))
      await deps.volumes.remove(name, true).catch((e) => deps.log.warn(messageOf(e), { volume: name }))
    forgetUnfinished(deps.store)
    for (const id of deps.rootfs.list()) {
      if (registry.find(id) === undefined) await deps.rootfs.remove(id).catch((e) => deps.log.warn(messageOf(e), { container: id }))
    }
    for (const id of names(`${deps.root}/containers`)) {
      if (/^[0-9a-f]{64}$/.test(id) && registry.find(id) === undefined) {
        rmSync(`${deps.root}/containers/${id}`, { recursive: true, force: true })
      }
    }
  }
}
