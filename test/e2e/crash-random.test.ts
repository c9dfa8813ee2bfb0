/**
 * kill -9 of the engine at random moments and at single steps of its changes, while networks, containers and ports come and go. After each
 * restart the kernel holds what the API says and nothing else, what was confirmed is there with its ids and addresses, and traffic of
 * what ran all the time never stopped. The seed is printed; CAUSEWAY_SEED repeats a run.
 */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { type Flow, tcpFlow, udpFlow } from './flows.ts'
import { disagreements, sleep, worldOf } from './judge.ts'

isolate()
const seed = Number(process.env['CAUSEWAY_SEED'] ?? Date.now() % 1_000_000)
const ROUNDS = Number(process.env['CAUSEWAY_ROUNDS'] ?? 10)
console.log(`seed ${seed}`)
const lab = await startEngineLab()
const flows: Flow[] = []
after(async () => {
  delete process.env['CAUSEWAY_CRASH_AT']
  for (const flow of flows) flow.close()
  assert.deepEqual(await lab.close(), [])
})

/** mulberry32 */
let state = seed
const random = (): number => {
  state = (state + 0x6d2b79f5) | 0
  let t = Math.imul(state ^ (state >>> 15), 1 | state)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
}
const upTo = (n: number) => Math.floor(random() * n)

/** What the engine has confirmed and nobody has asked to change since. `undefined` = a request was under way or failed: either is right. */
const networks = new Map<string, { id: string; subnet: string } | undefined>()
const containers = new Map<string, { id: string; running: boolean | undefined } | undefined>()

const NETWORKS = ['net0', 'net1', 'net2', 'net3']
const CONTAINERS = ['box0', 'box1', 'box2', 'box3', 'box4']

/** One client at a time for each thing, so that what was confirmed is known. */
const busy = new Set<string>()

async function operate(): Promise<void> {
  const net = NETWORKS[upTo(NETWORKS.length)] as string
  const index = upTo(CONTAINERS.length)
  const box = CONTAINERS[index] as string
  if (busy.has(net) || busy.has(box)) return
  busy.add(net).add(box)
  try {
    await operateOn(net, box, index)
  } finally {
    busy.delete(net)
    busy.delete(box)
  }
}

async function operateOn(net: string, box: string, index: number): Promise<void> {
  const api = async (method: string, path: string, body?: unknown) => lab.api(method, path, body).catch(() => undefined)
  switch (upTo(9)) {
    case 0: {
      if (networks.has(net)) return
      networks.set(net, undefined)
      const made = await api('POST', '/networks/create', { Name: net })
      if (made?.status !== 201) return
      const seen = await api('GET', `/networks/${net}`)
      if (seen?.status === 200) networks.set(net, { id: made.json.Id, subnet: seen.json.IPAM.Config[0].Subnet })
      return
    }
    case 1: {
      const before = networks.get(net)
      networks.set(net, undefined)
      const gone = await api('DELETE', `/networks/${net}`)
      if (gone?.status === 204 || gone?.status === 404) networks.delete(net)
      else if (gone?.status === 403) networks.set(net, before)
      return
    }
    case 2: {
      if (containers.has(box)) return
      containers.set(box, undefined)
      const made = await api('POST', `/containers/create?name=${box}`, {
        Image: 'busybox',
        Cmd: ['httpd', '-f', '-h', '/etc'],
        StopSignal: 'SIGKILL',
        HostConfig: { NetworkMode: networks.get(net) ? net : 'base', PortBindings: { '80/tcp': [{ HostPort: `${8100 + index}` }] } },
      })
      if (made?.status === 201) containers.set(box, { id: made.json.Id, running: false })
      return
    }
    case 3:
    case 4: {
      const known = containers.get(box)
      if (known === undefined) return
      containers.set(box, { ...known, running: undefined })
      const started = await api('POST', `/containers/${box}/start`)
      if (started?.status === 204 || started?.status === 304) containers.set(box, { ...known, running: true })
      return
    }
    case 5: {
      const known = containers.get(box)
      if (known === undefined) return
      containers.set(box, { ...known, running: undefined })
      const stopped = await api('POST', `/containers/${box}/stop`)
      if (stopped?.status === 204 || stopped?.status === 304) containers.set(box, { ...known, running: false })
      return
    }
    case 6: {
      containers.set(box, undefined)
      const gone = await api('DELETE', `/containers/${box}?force=1`)
      if (gone?.status === 204 || gone?.status === 404) containers.delete(box)
      return
    }
    case 7:
      await api('POST', `/networks/${net}/${random() < 0.5 ? 'connect' : 'disconnect'}`, { Container: box })
      return
    case 8: {
      const ports = [{ proto: 'tcp', containerPort: 80, hostIp: '', hostPort: 8200 + index, hostPortEnd: 8200 + index }]
      await api(random() < 0.5 ? 'POST' : 'DELETE', `/causeway/v1/containers/${box}/ports`, { ports })
      return
    }
  }
}

/** Several clients at once, each on objects of its own as far as names go, until the engine is dead or the time is over. */
async function drive(ms: number, isDead: () => boolean): Promise<void> {
  const end = Date.now() + ms
  const worker = async () => {
    while (Date.now() < end && !isDead()) {
      await operate()
      await sleep(upTo(5))
    }
  }
  await Promise.all([worker(), worker(), worker()])
}

async function wrong(): Promise<string[]> {
  const out = await disagreements(lab, { names: true })
  const world = await worldOf(lab)
  for (const [name, known] of networks) {
    const seen = world.networks.find((n) => n.Name === name)
    if (known && seen?.Id !== known.id) out.push(`network ${name} was ${known.id.slice(0, 12)}, is ${seen?.Id.slice(0, 12)}`)
    if (known && seen && seen.IPAM.Config[0]?.Subnet !== known.subnet) out.push(`network ${name} has another subnet`)
  }
  for (const n of world.networks) if (NETWORKS.includes(n.Name) && !networks.has(n.Name)) out.push(`network ${n.Name} came back`)
  for (const [name, known] of containers) {
    const seen = world.containers.find((c) => c.Name === `/${name}`)
    if (known && seen?.Id !== known.id) out.push(`container ${name} was ${known.id.slice(0, 12)}, is ${seen?.Id.slice(0, 12)}`)
    if (known && seen && known.running !== undefined && seen.State.Running !== known.running)
      out.push(`container ${name} ${known.running ? 'does not run any more' : 'runs'}`)
  }
  for (const c of world.containers)
    if (CONTAINERS.includes(c.Name.slice(1)) && !containers.has(c.Name.slice(1))) out.push(`container ${c.Name} came back`)
  for (const c of world.containers.filter((x) => x.State.Running))
    for (const [key, bindings] of Object.entries(c.NetworkSettings.Ports))
      for (const b of bindings ?? []) {
        if (key !== '80/tcp' || b.HostIp !== '0.0.0.0') continue
        const { code } = await lab.sh(`curl -s -m 2 -o /dev/null http://127.0.0.1:${b.HostPort}/hostname`)
        if (code !== 0) out.push(`port ${b.HostPort} of ${c.Name} does not answer (curl ${code})`)
      }
  return out
}

/** What is there now is what is known from here on. */
async function learn(): Promise<void> {
  networks.clear()
  containers.clear()
  const world = await worldOf(lab)
  for (const n of world.networks) if (NETWORKS.includes(n.Name)) networks.set(n.Name, { id: n.Id, subnet: n.IPAM.Config[0]?.Subnet ?? '' })
  for (const c of world.containers)
    if (CONTAINERS.includes(c.Name.slice(1))) containers.set(c.Name.slice(1), { id: c.Id, running: c.State.Running })
}

test('nothing is lost, left over or cut, whenever the engine is killed', async () => {
  await lab.api('POST', '/networks/create', { Name: 'base' })
  await lab.run('steady', {
    networks: ['base'],
    cmd: ['sh', '-c', 'chroot /host socat UDP-RECVFROM:9001,fork EXEC:cat & exec nc -ll -p 9000 -e cat'],
    host: {
      Binds: ['/usr', '/lib', '/lib64'].map((path) => `${path}:/host${path}:ro`),
      PortBindings: { '9000/tcp': [{ HostPort: '9000' }], '9001/udp': [{ HostPort: '9001' }] },
    },
  })
  flows.push(await tcpFlow('127.0.0.1', 9000), await udpFlow('127.0.0.1', 9001))
  const starts: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const atStep = round % 2 === 1 ? 1 + upTo(250) : 0
    const after = 50 + upTo(700)
    let dead = false
    if (atStep > 0) {
      await lab.stop()
      process.env['CAUSEWAY_CRASH_AT'] = String(atStep)
      await lab.start().catch(() => {
        dead = true // it died while it took things up: so be it
      })
      delete process.env['CAUSEWAY_CRASH_AT']
    }
    const driving = drive(atStep > 0 ? 3000 : after + 100, () => dead || !isAlive(lab.pid()))
    if (atStep === 0) {
      await sleep(after)
      await lab.kill9()
    }
    await driving
    dead = true
    await lab.kill9()
    const from = performance.now()
    await lab.start()
    starts.push(performance.now() - from)
    // links go in the background
    let found = await wrong()
    for (let i = 0; i < 30 && found.length > 0; i++) {
      await sleep(100)
      found = await wrong()
    }
    assert.deepEqual(
      found,
      [],
      `seed ${seed}, round ${round}, ${atStep > 0 ? `at step ${atStep}` : `after ${after} ms`}\n${lab.log().slice(-3000)}`,
    )
    for (const flow of flows) {
      assert.equal(flow.broken(), undefined, `seed ${seed}, round ${round}`)
      const before = flow.answers()
      await sleep(150)
      assert.ok(flow.answers() > before, 'the flow goes on')
    }
    await learn()
  }
  console.log('longest stand-still of tcp and udp (ms):', flows.map((f) => f.gap().toFixed(0)).join(', '))
  console.log('restart until the API answers (ms):', starts.map((ms) => ms.toFixed(0)).join(', '))
  assert.deepEqual((await lab.api('GET', '/causeway/v1/repairs')).json.repairs, [])
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
