/** Many containers of one overlay network over all hosts of a lab, started in parallel: does everyone reach everyone, by name? */
import type { Lab } from './lab.ts'

export interface Mesh {
  readonly startMs: number
  readonly pingMs: number
  /** `from to` of pairs without an answer, and starts that failed with the reason. */
  readonly failures: readonly string[]
  readonly pairs: number
}

/** Starts `count` containers at once, then pings every other from every one by name. The containers stay. */
export async function mesh(lab: Lab, network: string, count: number): Promise<Mesh> {
  const engineOf = (i: number) => lab.engines[i % lab.engines.length] as Lab['engines'][number]
  const names = Array.from({ length: count }, (_, i) => `mesh${i}`)
  const failures: string[] = []
  const begun = performance.now()
  await Promise.all(
    names.map((name, i) =>
      engineOf(i)
        .run(name, { networks: [network] })
        .catch((error: Error) => failures.push(`start ${name}: ${error.message}`)),
    ),
  )
  const started = performance.now()
  await Promise.all(
    names.map(async (name, i) => {
      const others = names.filter((other) => other !== name).join(' ')
      const script = `for n in ${others}; do ping -c 1 -W 2 $n >/dev/null 2>&1 || echo ${name} $n; done`
      const { out, err, code } = await engineOf(i).exec(name, 'sh', '-c', script)
      failures.push(...out.split('\n').filter((line) => line !== ''))
      if (code !== 0 || err !== '') failures.push(`exec in ${name}: ${code} ${err}`)
    }),
  )
  return { startMs: started - begun, pingMs: performance.now() - started, failures, pairs: count * (count - 1) }
}
