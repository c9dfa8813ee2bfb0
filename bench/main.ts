/**
 * `npm run bench [-- --quick] [--only network,dns] [--name text] [--sides causeway,peer] [--load 500]`
 * Measures two engines side by side, one round each in turn, first empty, then beside many networks and endpoints.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { CASES, type Case, load, machine, missingTools, ROWS } from './cases.ts'
import { type Engine, type EngineKind, startEngine } from './engines.ts'
import { buildRootfs, importImage } from './image.ts'
import { type Result, type ResultRow, renderMarkdown } from './report.ts'
import { summarize } from './stats.ts'

const { values: args } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    name: { type: 'string' },
    sides: { type: 'string', default: 'causeway,peer' },
    load: { type: 'string' },
  },
})
const { quick } = args
const only = args.only?.split(',')
const cases = CASES.filter((c) => only === undefined || only.includes(c.name))
const unknown = (only ?? []).filter((name) => !CASES.some((c) => c.name === name))
const loadCount = Number(args.load ?? (quick ? 50 : 500))

class Bench {
  readonly engines: Engine[] = []
  readonly #series = new Map<string, number[]>()
  readonly failures: string[] = []
  #stopping = false

  async start(): Promise<void> {
    const kinds = args.sides.split(',') as EngineKind[]
    for (const [i, kind] of kinds.entries()) {
      const label = kinds.indexOf(kind) === i ? kind : `${kind}-${i + 1}`
      console.log(`starting ${label}`)
      this.engines.push(await startEngine(kind, label))
    }
    const tar = buildRootfs()
    for (const engine of this.engines) await importImage(engine.api, tar)
  }

  async measure(which: readonly Case[], loaded: number): Promise<void> {
    for (const one of which) {
      const rounds = quick ? one.rounds.quick : one.rounds.full
      process.stdout.write(`${one.name}${loaded > 0 ? ` beside ${loaded} networks` : ''} `)
      const broken = new Set<Engine>()
      for (let i = 0; i <= rounds; i++) {
        if (i === 0 && rounds === 1) continue
        for (const engine of this.engines) {
          if (broken.has(engine)) continue
          try {
            // the first round warms caches and is not counted
            const record = (row: string, value: number) => i > 0 && this.#add(engine, loaded, row, value)
            await one.round(engine, `${one.name}-${loaded}-${i}`, record, quick)
          } catch (error) {
            broken.add(engine)
            this.failures.push(`${one.name} on ${engine.label}${loaded > 0 ? ` beside ${loaded}` : ''}: ${(error as Error).message}`)
          }
        }
        process.stdout.write('.')
      }
      console.log()
    }
  }

  /** Fills every engine; one that cannot be filled stays as it is and is said. */
  async fill(count: number): Promise<() => Promise<void>> {
    const undo: (() => Promise<void>)[] = []
    for (const engine of this.engines) {
      const started = performance.now()
      undo.push(await load(engine, count, (done) => process.stdout.write(`\rloading ${engine.label}: ${done} of ${count} `)))
      console.log(`in ${((performance.now() - started) / 1000).toFixed(1)} s`)
    }
    return async () => {
      for (const action of undo) await action()
    }
  }

  #add(engine: Engine, loaded: number, row: string, value: number): void {
    const key = `${engine.label}\n${loaded}\n${row}`
    this.#series.set(key, [...(this.#series.get(key) ?? []), value])
  }

  result(): Result {
    const rows: ResultRow[] = []
    for (const [row, { unit, better }] of Object.entries(ROWS))
      for (const loaded of new Set([0, loadCount])) {
        const sides = this.engines.map((engine) => this.#series.get(`${engine.label}\n${loaded}\n${row}`) ?? [])
        if (sides.every((values) => values.length === 0)) continue
        rows.push({ row, unit, better, loaded, sides: sides.map((values) => ({ ...summarize(values), values })) })
      }
    return {
      when: new Date().toISOString(),
      quick,
      machine: machine(),
      engines: this.engines.map(({ label, version }) => ({ label, version })),
      rows,
      failures: this.failures,
    }
  }

  async stop(): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    for (const engine of this.engines) await engine.stop()
  }
}

async function main(): Promise<number> {
  if (unknown.length > 0) {
    console.error(`there is no part "${unknown.join(', ')}"; parts: ${CASES.map((c) => c.name).join(', ')}`)
    return 2
  }
  const missing = missingTools()
  if (missing.length > 0) {
    console.error(`these tools are missing: ${missing.join(', ')} (apt-get install iperf3 dnsperf util-linux netcat-openbsd)`)
    return 2
  }
  const bench = new Bench()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void bench.stop().then(() => process.exit(130)))
  try {
    await bench.start()
    await bench.measure(cases, 0)
    const again = cases.filter((c) => c.underLoad)
    if (loadCount > 0 && again.length > 0) {
      const unload = await bench.fill(loadCount)
      await bench.measure(again, loadCount)
      await unload()
    }
    const result = bench.result()
    const name = args.name ?? (quick ? 'quick' : 'latest')
    const folder = join(import.meta.dirname, 'results')
    mkdirSync(folder, { recursive: true })
    const text = renderMarkdown(result)
    // a run of some parts only must not replace the record of a whole one
    if (only === undefined || args.name !== undefined) {
      writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(result, null, 1)}\n`)
      writeFileSync(join(folder, `${name}.md`), text)
    }
    console.log(`\n${text}`)
    return bench.failures.length > 0 ? 1 : 0
  } finally {
    await bench.stop()
  }
}

process.exit(await main())
