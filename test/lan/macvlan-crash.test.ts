/**
 * kill -9 at single steps while containers join and leave a macvlan network with an interface of the host's: after each restart the
 * kernel holds what the API says and nothing else. The seed is printed; CAUSEWAY_SEED repeats a run.
 */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { seeded } from '../../testkit/random.ts'
import { until } from '../e2e/site.ts'

isolate()
const seed = Number(process.env['CAUSEWAY_SEED'] ?? Date.now() % 1_000_000)
console.log(`seed ${seed}`)
const random = seeded(seed)
const ROUNDS = 5
const lab = await startEngineLab()
await lab.sh(
  'ip link add nic0 type veth peer name nic0-wire; ip addr add 10.80.0.1/24 dev nic0; ip link set nic0 up; ip link set nic0-wire up',
)
after(async () => {
  delete process.env['CAUSEWAY_CRASH_AT']
  assert.deepEqual(await lab.close(), [])
})

/** Sentences on what the kernel and the API disagree about. */
async function disagreements(): Promise<string[]> {
  const found: string[] = []
  const networks = (await lab.api('GET', '/networks')).json as { Name: string; Id: string }[]
  const lan = networks.find((n) => n.Name === 'lan')
  const members: string[] = []
  for (const { Id } of (await lab.api('GET', '/containers/json')).json as { Id: string }[]) {
    const { json } = await lab.api('GET', `/containers/${Id}/json`)
    const inside = (await lab.sh(`nsenter --net=${json.NetworkSettings.SandboxKey} ip -d -o link`)).out
    const address = json.NetworkSettings.Networks.lan?.IPAddress as string | undefined
    if (address) members.push(address)
    const born = inside.split('\n').filter((line) => line.includes('macvlan'))
    if (born.length !== (address ? 1 : 0)) found.push(`${json.Name}: API ${address ?? 'not connected'}, kernel ${born.join(' ')}`)
    if (/born-|gone/.test(inside)) found.push(`${json.Name}: an interface was left half-way`)
  }
  const shims = [...(await lab.sh('ip -o link')).out.matchAll(/\b(mh-[0-9a-f]{12})@/g)].map(([, name]) => name as string)
  if (shims.join() !== (lan ? `mh-${lan.Id.slice(0, 12)}` : '')) found.push(`interfaces of the host: ${shims.join()}, network ${lan?.Id}`)
  const routes = lan && shims.length > 0 ? (await lab.sh(`ip route show dev ${shims[0]}`)).out : ''
  const led = [...routes.matchAll(/^(10\.80\.0\.\d+) /gm)].map(([, ip]) => ip as string)
  if (led.sort().join() !== members.sort().join()) found.push(`routes lead to ${led.join()}, members are ${members.join()}`)
  return found
}

test('macvlan: nothing is lost or left over, whenever the engine is killed', async () => {
  const api = (method: string, path: string, body?: unknown) => lab.api(method, path, body).catch(() => undefined)
  const IPAM = { Config: [{ Subnet: '10.80.0.0/24' }] }
  const options = { parent: 'nic0', 'causeway.macvlan.host': 'true' }
  await lab.run('steady')
  await lab.run('other')
  for (let round = 0; round < ROUNDS; round++) {
    await lab.stop()
    const step = 1 + random.below(70)
    process.env['CAUSEWAY_CRASH_AT'] = String(step)
    await lab.start().catch(() => undefined) // it may die while it takes things up
    delete process.env['CAUSEWAY_CRASH_AT']
    for (const verb of ['connect', 'disconnect', 'connect', 'disconnect', 'connect']) {
      await api('POST', '/networks/create', { Name: 'lan', Driver: 'macvlan', Options: options, IPAM })
      for (const Container of ['steady', 'other']) await api('POST', `/networks/lan/${verb}`, { Container })
      if (verb === 'disconnect') await api('DELETE', '/networks/lan')
    }
    await lab.kill9()
    await lab.start()
    // links go in the background
    await until(async () => (await disagreements()).length === 0, 3000)
    assert.deepEqual(await disagreements(), [], `seed ${seed}, round ${round}, step ${step}\n${lab.log().slice(-2000)}`)
  }
})
