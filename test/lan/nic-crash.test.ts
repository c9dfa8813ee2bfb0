/**
 * A whole engine is killed at single steps while a card of the host becomes a bridge's port and comes back: the host has its address at
 * once, a connection of before goes on, and the next engine finishes or undoes what was begun. The seed is printed; CAUSEWAY_SEED
 * repeats a run.
 */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { rmSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { after, test } from 'node:test'
import { startEngineLab } from '../../testkit/engine-lab.ts'
import { isolate } from '../../testkit/isolated.ts'
import { seeded } from '../../testkit/random.ts'
import { until } from '../e2e/site.ts'

isolate()
const seed = Number(process.env['CAUSEWAY_SEED'] ?? Date.now() % 1_000_000)
console.log(`seed ${seed}`)
const random = seeded(seed)

const LAN = `cwnc-lan-${process.pid}`
const NIC = 'cwcard0'

function sh(command: string): string {
  const ran = spawnSync('sh', ['-ec', command], { encoding: 'utf8' })
  assert.equal(ran.status, 0, `${command}: ${ran.stderr}${ran.stdout}`)
  return ran.stdout.trimEnd()
}

sh(`ip netns add ${LAN} && ip link add ${NIC} type veth peer name eth0 netns ${LAN}`)
sh(`ip -n ${LAN} addr add 10.10.126.1/24 dev eth0 && ip -n ${LAN} link set eth0 up && ip -n ${LAN} link set lo up`)
sh(`ip addr add 10.10.126.101/24 dev ${NIC} && ip addr add 10.10.126.102/24 dev ${NIC} && ip link set ${NIC} up`)
sh(`ip route add default via 10.10.126.1 && ip route add 10.50.0.0/16 via 10.10.126.1 dev ${NIC} table 100 metric 7`)
const echo = spawn('ip', ['netns', 'exec', LAN, 'socat', 'TCP-LISTEN:7000,fork,reuseaddr', 'EXEC:cat'], { stdio: 'ignore' })

const lab = await startEngineLab()
const ARMED = `${lab.dir}/armed`
const before = layer3(NIC)
const socket = await talker()
after(async () => {
  delete process.env['CAUSEWAY_CRASH_AT']
  socket.destroy()
  echo.kill()
  const left = await lab.close()
  spawnSync('ip', ['netns', 'del', LAN])
  assert.deepEqual(left, [])
})

/** Addresses and routes of an interface, whatever it is called. */
function layer3(dev: string): string {
  const addresses = sh(`ip -4 -o addr show dev ${dev} | sed 's/ *valid_lft.*//;s/^[0-9]*: //;s/ [^ ]*$//'`)
  return `${addresses}\n${sh(`ip route show table all dev ${dev} | grep -vE '^(local|broadcast|multicast|fe80)'`)}`.replaceAll(dev, 'DEV')
}

async function talker(): Promise<Socket> {
  for (const end = Date.now() + 5000; ; ) {
    const made = connect({ host: '10.10.126.1', port: 7000, localAddress: '10.10.126.101' })
    const ready = await Promise.race([once(made, 'connect').then(() => true), once(made, 'error').then(() => false)]).catch(() => false)
    if (ready) return made.setNoDelay(true)
    assert.ok(Date.now() < end, 'the echo service answers')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

let words = 0
async function stillTalks(when: string): Promise<void> {
  const word = `word ${++words}\n`
  let got = ''
  const onData = (chunk: Buffer) => {
    got += chunk.toString()
  }
  socket.on('data', onData)
  socket.write(word)
  await until(async () => got === word, 8000)
  socket.off('data', onData)
  assert.equal(got, word, when)
}

/** What holds at every moment, whether an engine runs or not. */
async function hostIsThere(when: string): Promise<void> {
  const now = sh('ip -4 -o addr show up scope global')
  for (const ip of ['10.10.126.101', '10.10.126.102']) assert.ok(now.includes(`inet ${ip}/24`), `${when}: ${now}`)
  assert.match(sh('ip route get 8.8.8.8'), /via 10\.10\.126\.1 dev/, when)
  assert.equal(spawnSync('ip', ['netns', 'exec', LAN, 'ping', '-c1', '-W3', '10.10.126.101']).status, 0, `${when}: from the LAN`)
  await stillTalks(when)
}

const create = () =>
  lab.api('POST', '/networks/create', {
    Name: 'lan',
    Driver: 'bridge',
    Options: { parent: NIC },
    IPAM: { Config: [{ Subnet: '10.10.126.0/24', IPRange: '10.10.126.128/25' }] },
  })
const remove = () => lab.api('DELETE', '/networks/lan')

/** The network is there with everything, or everything is on the card and nothing of it is left. */
async function isWhole(when: string): Promise<boolean> {
  const networks = (await lab.api('GET', '/networks')).json as { Name: string; Id: string }[]
  const network = networks.find(({ Name }) => Name === 'lan')
  const { store } = (await lab.api('GET', '/causeway/v1/debug/state')).json
  const bridges = () => sh("ip -o link show type bridge | grep -o 'br-[0-9a-f]*' | sort -u || true")
  if (network === undefined) {
    await until(async () => bridges() === '', 3000) // links go in the background
    assert.equal(bridges(), '', when)
    assert.equal(layer3(NIC), before, when)
    assert.equal(store.nic, undefined, `${when}: no record is left`)
    return false
  }
  const bridge = `br-${network.Id.slice(0, 12)}`
  assert.equal(bridges(), bridge, when)
  assert.equal(layer3(bridge), before, when)
  assert.match(sh(`bridge link show dev ${NIC}`), new RegExp(`master ${bridge} `), when)
  return true
}

/** Brings the network there or away, while nothing is armed. */
async function bring(wanted: boolean, isThere: boolean): Promise<void> {
  if (wanted === isThere) return
  const { status, text } = await (wanted ? create() : remove())
  assert.equal(status, wanted ? 201 : 204, text)
}

/** Starts the engine that dies at this step of whatever happens while {@link ARMED} is there. */
async function startMortal(step: number): Promise<void> {
  process.env['CAUSEWAY_CRASH_AT'] = `${step}@${ARMED}`
  await lab.start()
  delete process.env['CAUSEWAY_CRASH_AT']
}

interface Kind {
  readonly name: string
  /** The network is there before. */
  readonly from: boolean
  /** Answers whether the engine has lived through it. */
  act(): Promise<boolean>
  /** Steps that it has at most: a guess, made smaller when an engine lives through it. */
  most: number
}

const isAnswered = (reply: Promise<unknown>) =>
  reply.then(
    () => true,
    () => false,
  )
const CREATE: Kind = { name: 'create', from: false, act: () => isAnswered(create()), most: 23 }
const REMOVE: Kind = { name: 'remove', from: true, act: () => isAnswered(remove()), most: 23 }
const END: Kind = { name: 'end of the engine', from: true, act: async () => (await lab.stop()) === 0, most: 20 }
const ORDER = [CREATE, REMOVE, CREATE, REMOVE, END]
/** Engine starts are what takes time: as many rounds as fit, and a few however slow the machine is. */
const TIME_MS = Number(process.env['CAUSEWAY_CRASH_MS'] ?? 10_000)
const LEAST = 3

test('killed at single steps of making and removing the network, and of ending: the host keeps its address and its connections', async () => {
  const begun = Date.now()
  const steps: string[] = []
  let last = 'at first'
  for (let round = 0; Date.now() - begun < TIME_MS || steps.length < LEAST; round++) {
    const kind = ORDER[round % ORDER.length] as Kind
    const step = 1 + random.below(kind.most)
    const when = `seed ${seed}, round ${round}, ${kind.name}, step ${step} of at most ${kind.most}`
    await lab.kill9()
    await startMortal(step)
    const isThere = await isWhole(`${last}; next engine`)
    await hostIsThere(`${last}; next engine`)
    await bring(kind.from, isThere)
    writeFileSync(ARMED, '')
    const survived = await kind.act()
    rmSync(ARMED)
    await hostIsThere(`${when}, at once`)
    if (survived) kind.most = Math.max(1, step - 1)
    else steps.push(`${kind.name} ${step}`)
    last = when
  }
  console.log(`killed at ${steps.join(', ')}; an operation has at most ${ORDER.slice(1, 3).map((kind) => `${kind.name} ${kind.most}`)}`)
  await lab.kill9()
  await lab.start()
  await bring(false, await isWhole(`${last}; next engine`))
  assert.equal(await isWhole('at the end'), false)
})
