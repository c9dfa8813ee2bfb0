/**
 * Three whole engines want the same thing at one moment: a network's name, a container's name on a network, an address. One has it, the
 * others get Docker's words, and nothing of theirs stays. CAUSEWAY_RACES: races of each kind.
 */
import { isolate } from '../../testkit/isolated.ts'

isolate()

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Reply } from '../../testkit/engine-lab.ts'
import { etcdMissing } from '../../testkit/etcd.ts'
import { type Lab, startLab } from '../../testkit/lab.ts'
import { until } from '../../testkit/until.ts'
import { judgeState } from './cluster-judge.ts'

const skip = etcdMissing() ?? false
const RACES = Number(process.env['CAUSEWAY_RACES'] ?? 60)
/** Races that run beside each other. */
const LANES = 4
let lab: Lab

before(async () => {
  if (!skip) lab = await startLab({ hosts: 3 })
})
after(async () => {
  if (!skip) assert.deepEqual(await lab.close(), [], 'nothing is left behind')
})

const everyone = <T>(ask: (engine: Lab['engines'][number], host: number) => Promise<T>): Promise<T[]> => Promise.all(lab.engines.map(ask))

/** Runs `race` RACES times, a few at a time. */
async function inLanes(race: (round: number) => Promise<void>): Promise<void> {
  let next = 0
  const lane = async () => {
    while (next < RACES) await race(next++)
  }
  await Promise.all(Array.from({ length: LANES }, lane))
}

/** Exactly one reply has the winner's status, the others the loser's with its text. Returns the winner's host. */
function oneWinner(replies: readonly Reply[], won: number, lost: number, text: string): number {
  const said = replies.map(({ status, text }) => `${status} ${text}`).join('\n')
  const winners = replies.flatMap(({ status }, host) => (status === won ? [host] : []))
  assert.equal(winners.length, 1, `one winner of:\n${said}`)
  for (const { status, json } of replies.filter((_, host) => host !== winners[0])) {
    assert.equal(status, lost, said)
    assert.equal(json.message, text)
  }
  return winners[0] as number
}

/** Engines, store and kernels agree, and no container of a race is left anywhere. */
async function nothingLeft(networks: readonly string[]): Promise<void> {
  let wrong: string[] = []
  await until(
    'all is clean',
    async () => {
      const judged = await judgeState(lab)
      const { truth } = judged
      wrong = [...judged.wrong, ...truth.containers.keys(), ...truth.attached.map((a) => `${a.container} on ${a.network}`)]
      return wrong.length === 0
    },
    10_000,
  ).catch((error: Error) => assert.fail(`${error.message}: ${wrong.join('\n')}`))
  const { truth } = await judgeState(lab)
  assert.deepEqual([...(truth.networks[0] ?? new Map()).keys()].toSorted(), networks)
}

/** `name(host)` is created everywhere, then all are started at once. */
async function raceOfStarts(name: (host: number) => string, ip: string | undefined, text: string): Promise<void> {
  const network = 'arena'
  const made = await everyone((engine, host) =>
    engine.api('POST', `/containers/create?name=${name(host)}`, {
      Image: 'busybox',
      Cmd: ['sleep', '600'],
      HostConfig: { NetworkMode: network },
      ...(ip === undefined ? {} : { NetworkingConfig: { EndpointsConfig: { [network]: { IPAMConfig: { IPv4Address: ip } } } } }),
    }),
  )
  for (const { status, text } of made) assert.equal(status, 201, text)
  const replies = await everyone((engine, host) => engine.api('POST', `/containers/${name(host)}/start`))
  const winner = oneWinner(replies, 204, 403, `failed to set up container networking: ${text}`)
  const running = await everyone(async (engine, host) => (await engine.api('GET', `/containers/${name(host)}/json`)).json)
  for (const [host, container] of running.entries()) assert.equal(container.State.Running, host === winner)
  if (ip !== undefined) assert.equal(running[winner].NetworkSettings.Networks[network].IPAddress, ip)
  for (const { status, text } of await everyone((engine, host) => engine.api('DELETE', `/containers/${name(host)}?force=1`)))
    assert.equal(status, 204, text)
}

test(`${RACES} races for a network's name`, { skip }, async () => {
  await inLanes(async (round) => {
    const name = `net${round}`
    const replies = await everyone((engine) => engine.api('POST', '/networks/create', { Name: name, Driver: 'overlay' }))
    const winner = oneWinner(replies, 201, 409, `network with name ${name} already exists`)
    const id = replies[winner]?.json.Id
    const removed = await lab.engines[(winner + round) % 3]?.api('DELETE', `/networks/${id}`)
    // another host may not have heard of it yet
    if (removed?.status === 404) assert.equal((await lab.engines[winner]?.api('DELETE', `/networks/${id}`))?.status, 204)
    else assert.equal(removed?.status, 204, removed?.text)
  })
  await nothingLeft([])
})

test('a network for the races of containers', { skip }, async () => {
  const made = await lab.engines[0]?.api('POST', '/networks/create', {
    Name: 'arena',
    Driver: 'overlay',
    IPAM: { Config: [{ Subnet: '10.88.0.0/16' }] },
  })
  assert.equal(made?.status, 201, made?.text)
  for (const engine of lab.engines) await until('it is known', async () => (await engine.api('GET', '/networks/arena')).status === 200)
})

test(`${RACES} races for a container's name on a network`, { skip }, async () => {
  await inLanes((round) => raceOfStarts(() => `one${round}`, undefined, `endpoint with name one${round} already exists in network arena`))
  await nothingLeft(['arena'])
})

test(`${RACES} races for an address`, { skip }, async () => {
  await inLanes((round) => raceOfStarts((host) => `at${round}h${host}`, `10.88.7.${1 + (round % 250)}`, 'Address already in use'))
  await nothingLeft(['arena'])
})
