/** A card becomes a port of a bridge and the host goes on: on the real kernel, with a connection that lives through it, and with a crash at every step. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { after, test } from 'node:test'
import { type Logger, silentLogger } from '../../src/base/ports.ts'
import { openRtnl } from '../../src/kernel/rtnl.ts'
import { InterfaceState } from '../../src/lan/nic-move/interface-state.ts'
import { NicMove } from '../../src/lan/nic-move/nic-move.ts'
import type { Network } from '../../src/model/network.ts'
import { memoryStore } from '../../src/store/memory-store.ts'
import { initNetns } from '../../src/sys/netns.ts'
import { isolate } from '../../testkit/isolated.ts'

isolate()
await initNetns()

const LAN = `cwnic-lan-${process.pid}`
const NIC = 'cwnic0'
const BRIDGE = 'br-0123456789ab'
const NETWORK = {
  id: '0123456789ab'.padEnd(64, '0'),
  name: 'lan',
  driver: 'bridge',
  internal: false,
  configOnly: false,
  options: { parent: NIC },
} as unknown as Network

function sh(command: string): string {
  const ran = spawnSync('sh', ['-ec', command], { encoding: 'utf8' })
  assert.equal(ran.status, 0, `${command}: ${ran.stderr}${ran.stdout}`)
  return ran.stdout.trimEnd()
}

// what is plugged into the same switch: a router with an echo service
sh(`ip netns add ${LAN} && ip link add ${NIC} type veth peer name eth0 netns ${LAN}`)
sh(`ip -n ${LAN} addr add 192.168.77.1/24 dev eth0 && ip -n ${LAN} addr add fd77::1/64 dev eth0 nodad`)
sh(`ip -n ${LAN} link set eth0 up && ip -n ${LAN} link set lo up`)
const echo = spawn('ip', ['netns', 'exec', LAN, 'socat', 'TCP6-LISTEN:7000,fork,reuseaddr,ipv6only=0', 'EXEC:cat'], { stdio: 'ignore' })
const rtnl = openRtnl()
const state = InterfaceState.open()
after(() => {
  for (const socket of sockets) socket.destroy()
  echo.kill()
  rtnl.close()
  state.close()
  spawnSync('ip', ['netns', 'del', LAN])
})

/** Everything that a host may have on its card. */
const SETUP = [
  `link set ${NIC} up mtu 1450`,
  `addr add 192.168.77.5/24 brd + dev ${NIC}`,
  `addr add 192.168.77.6/24 dev ${NIC} label ${NIC}:1`,
  `addr add 10.9.0.5/16 dev ${NIC} noprefixroute`,
  `addr add fd77::5/64 dev ${NIC} nodad valid_lft 3600 preferred_lft 1800`,
  `addr add 172.30.0.1 peer 172.30.0.2/32 dev ${NIC}`,
  `route add 10.9.0.0/16 dev ${NIC} proto kernel scope link src 10.9.0.5 metric 100`,
  `route add default via 192.168.77.1 dev ${NIC} metric 50 mtu 1400 src 192.168.77.6`,
  `route add 10.50.0.0/16 via 192.168.77.1 dev ${NIC}`,
  `route add 10.51.0.0/16 via 10.50.0.1 dev ${NIC} onlink`,
  `route add 10.52.0.0/16 nexthop via 192.168.77.1 dev ${NIC} weight 3 nexthop via 192.168.77.2 dev ${NIC} weight 1`,
  `route add default via 192.168.77.1 dev ${NIC} table 100`,
  `-6 route add default via fd77::1 dev ${NIC} metric 700`,
  `-6 route add fd99::/64 via fd77::1 dev ${NIC} table 100`,
]

function clean(): void {
  spawnSync('ip', ['link', 'del', BRIDGE])
  sh(`ip link set ${NIC} nomaster down && ip addr flush dev ${NIC}`)
  for (const line of SETUP) sh(`ip ${line}`)
}

/** Addresses and routes of an interface as ip(8) prints them, without what counts down. */
function layer3(dev: string): string[] {
  const addresses = sh(`ip -o addr show dev ${dev} scope global; ip -o addr show dev ${dev} scope link | grep -v inet6 || true`)
  const routes = ['-4', '-6'].map((family) =>
    sh(`ip ${family} route show table all dev ${dev} | grep -vE '^(local|broadcast|anycast|multicast|fe80)' || true`),
  )
  const multipath = sh('ip -4 route show 10.52.0.0/16').replace(/\s+/g, ' ')
  return [...addresses.split('\n'), ...routes.join('\n').split('\n'), multipath.includes(dev) ? multipath : '']
    .map((line) =>
      line
        .replace(/^\d+: /, '')
        .replace(/\\?\s+valid_lft.*/, '')
        .replaceAll(dev, 'DEV')
        .replace(/ DEV(:\d+)?$/, '')
        .replace(/ (linkdown|pref medium|dynamic|expires \d+sec)\b/g, '')
        .replace(/\s+/g, ' ')
        .trim(),
    )
    .filter((line) => line !== '')
    .sort()
}

const sockets: Socket[] = []
async function echoSocket(host: string, from: string): Promise<Socket> {
  const socket = connect({ host, port: 7000, localAddress: from })
  sockets.push(socket)
  await once(socket, 'connect')
  socket.setNoDelay(true)
  return socket
}

let words = 0
/** A word goes there and back over a connection that was made before. */
async function stillTalks(socket: Socket, when: string): Promise<void> {
  const word = `word ${++words}\n`
  let got = ''
  const onData = (chunk: Buffer) => {
    got += chunk.toString()
  }
  socket.on('data', onData)
  socket.write(word)
  const until = Date.now() + 8000
  while (got !== word && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 5))
  socket.off('data', onData)
  assert.equal(got, word, when)
}

/** A log on which only errors count. */
const problems: string[] = []
const log: Logger = { debug() {}, info() {}, warn: (text) => void problems.push(text), error: (text) => void problems.push(text) }

function mover(parts: Partial<ConstructorParameters<typeof NicMove>[0]> = {}) {
  return new NicMove({ store: memoryStore(), rtnl, state, log, bootId: 'this boot', ...parts })
}

test('addresses, routes of all tables and connections move to the bridge, and come back', async () => {
  clean()
  const before = layer3(NIC)
  assert.ok(before.length >= 13, before.join('\n'))
  const mac = sh(`ip -o link show ${NIC} | grep -o 'ether [^ ]*'`)
  const four = await echoSocket('192.168.77.1', '192.168.77.6')
  const six = await echoSocket('fd77::1', 'fd77::5')
  await stillTalks(four, 'before')
  const move = mover()
  move.take(NETWORK)
  assert.deepEqual(layer3(BRIDGE), before)
  assert.deepEqual(layer3(NIC), [])
  assert.equal(sh(`ip -o link show ${BRIDGE} | grep -o 'ether [^ ]*'`), mac)
  assert.match(sh(`ip -o link show ${BRIDGE}`), /mtu 1450/)
  assert.match(sh(`bridge link show dev ${NIC}`), new RegExp(`master ${BRIDGE} state forwarding`))
  await stillTalks(four, 'IPv4 on the bridge')
  await stillTalks(six, 'IPv6 on the bridge')
  assert.match(sh(`ip -6 addr show dev ${BRIDGE} scope global`), /valid_lft 3[56]\d\dsec/, 'lifetimes go along')
  // the LAN may call the host anew, too
  assert.equal(sh(`ip netns exec ${LAN} ping -c1 -W2 192.168.77.5 >/dev/null && echo yes`), 'yes')
  assert.ok(move.holds(BRIDGE))
  move.take(NETWORK) // again: nothing happens
  assert.deepEqual(layer3(BRIDGE), before)

  move.giveBack(NETWORK)
  assert.deepEqual(layer3(NIC), before)
  assert.match(sh(`ip -4 -o addr show dev ${NIC} label ${NIC}:1`), /192\.168\.77\.6/, 'also the label')
  await stillTalks(four, 'IPv4 back on the card')
  await stillTalks(six, 'IPv6 back on the card')
  assert.equal(move.holds(BRIDGE), false)
  move.giveBack(NETWORK) // again: nothing happens
  four.destroy()
  six.destroy()
  assert.deepEqual(problems, [])
})

test('what changed on the bridge meanwhile comes back with the rest', () => {
  clean()
  const move = mover()
  move.take(NETWORK)
  sh(`ip addr add 10.77.0.9/24 dev ${BRIDGE} && ip addr del 10.9.0.5/16 dev ${BRIDGE} && ip route add 10.60.0.0/16 via 192.168.77.1`)
  move.giveBack(NETWORK)
  const now = layer3(NIC).join('\n')
  assert.match(now, /10\.77\.0\.9\/24/)
  assert.match(now, /10\.60\.0\.0\/16 via 192\.168\.77\.1/)
  assert.doesNotMatch(now, /10\.9\.0\.5/)
})

test('a bridge that somebody deleted costs the host nothing once the engine looks', () => {
  clean()
  const before = layer3(NIC)
  const move = mover()
  move.take(NETWORK)
  sh(`ip link del ${BRIDGE}`)
  assert.deepEqual(layer3(NIC), [])
  move.take(NETWORK)
  assert.deepEqual(layer3(BRIDGE), before)
  sh(`ip link del ${BRIDGE}`)
  move.giveBack(NETWORK)
  assert.deepEqual(layer3(NIC), before)
})

test('what cannot be bridged is refused before anything is changed', () => {
  clean()
  const before = layer3(NIC)
  const take = (parent: string, more = {}) => mover().take({ ...NETWORK, options: { parent, ...more } })
  assert.throws(() => take('nope0'), { code: 'not-found', message: 'parent interface nope0 does not exist' })
  assert.throws(() => take('lo'), { code: 'invalid', message: 'cannot bridge parent interface lo: it is the loopback interface' })
  sh('ip link add cwbr7 type bridge')
  assert.throws(() => take('cwbr7'), {
    code: 'invalid',
    message: /it is a bridge already, use it with -o com\.docker\.network\.bridge\.name=cwbr7/,
  })
  assert.throws(() => take(NIC, { 'com.docker.network.bridge.name': 'cwbr7' }), {
    code: 'conflict',
    message: /there is an interface cwbr7 already/,
  })
  sh(`ip link set ${NIC} master cwbr7`)
  assert.throws(() => take(NIC), { code: 'conflict', message: `cannot bridge parent interface ${NIC}: it is a port of cwbr7` })
  sh(`ip link set ${NIC} nomaster && ip link del cwbr7`)
  assert.deepEqual(layer3(NIC), before)
})

test('a card that the kernel lets into no bridge keeps everything', () => {
  clean()
  const before = layer3(NIC)
  sh(`ip link add cwmv0 link ${NIC} type macvlan mode bridge`) // its parent has a receive handler already
  assert.throws(() => mover().take(NETWORK), { code: 'conflict', message: /it is the parent of cwmv0 \(macvlan\)/ })
  assert.deepEqual(layer3(NIC), before)
  sh(`ip link set cwmv0 netns ${LAN}`) // where it is not seen from here
  assert.throws(() => mover().take(NETWORK), {
    code: 'conflict',
    message: /a macvlan or ipvlan interface is on it, of a container perhaps/,
  })
  assert.deepEqual(layer3(NIC), before)
  sh(`ip -n ${LAN} link del cwmv0`)
  sh(
    'ip tuntap add cwtun0 mode tun && ip addr add 10.200.0.1/24 dev cwtun0 && ip link set cwtun0 up && ip route add 10.201.0.0/16 via 10.200.0.2',
  )
  const tunnel = layer3('cwtun0')
  assert.throws(() => mover().take({ ...NETWORK, options: { parent: 'cwtun0' } }), /Cannot make cwtun0 a port of br-0123456789ab/)
  assert.deepEqual(layer3('cwtun0'), tunnel)
  assert.equal(spawnSync('ip', ['link', 'show', BRIDGE]).status, 1)
  sh('ip link del cwtun0')
})

class Crash extends Error {}

/** From the n-th moment on (before and after each change) nothing happens any more, as if the process had been killed there. */
function dyingParts(n: number) {
  let steps = 0
  const dying = <T extends object>(target: T, changes: readonly string[]): T =>
    new Proxy(target, {
      get(object, key) {
        const value = Reflect.get(object, key, object) as unknown
        if (typeof value !== 'function') return value
        return (...args: unknown[]) => {
          const counts = changes.includes(String(key))
          if (steps >= n || (counts && ++steps >= n)) throw new Crash()
          const result: unknown = (value as (...a: unknown[]) => unknown).apply(object, args)
          if (counts && ++steps >= n) throw new Crash()
          return result
        }
      },
    })
  const store = memoryStore()
  const parts = {
    store: dying(store, ['put', 'remove']),
    rtnl: dying(rtnl, ['apply']),
    state: dying(state, ['addAddresses', 'cross', 'leadRoutes', 'deleteRoutes']),
  }
  return { store, parts }
}

/** Runs `act` with a crash at every moment; `check` gets what the dead engine left. Returns the number of moments. */
async function atEveryMoment(
  act: (move: NicMove) => void,
  prepare: (move: NicMove) => void,
  check: (store: ReturnType<typeof memoryStore>, n: number) => Promise<void>,
): Promise<number> {
  for (let n = 1; ; n++) {
    clean()
    const { store, parts } = dyingParts(n)
    prepare(mover({ store }))
    try {
      act(mover({ ...parts, log: silentLogger }))
      return n - 1
    } catch (error) {
      if (!(error instanceof Crash)) throw error
    }
    await check(store, n)
  }
}

test('killed at any moment of the move: the host has its address, and the next engine finishes or undoes it', async () => {
  clean()
  const before = layer3(NIC)
  const socket = await echoSocket('192.168.77.1', '192.168.77.5')
  const moments = await atEveryMoment(
    (move) => move.take(NETWORK),
    () => {},
    async (store, n) => {
      assert.match(sh('ip -4 -o addr show up'), /inet 192\.168\.77\.5\/24/, `moment ${n}`)
      await stillTalks(socket, `moment ${n}`)
      const next = mover({ store })
      const isKept = n % 2 === 0
      next.recover(() => isKept)
      if (isKept) next.take(NETWORK)
      assert.deepEqual(layer3(isKept ? BRIDGE : NIC), before, `moment ${n}, ${isKept ? 'finished' : 'undone'}`)
      await stillTalks(socket, `moment ${n}, next engine`)
    },
  )
  assert.ok(moments >= 12, `${moments} moments`)
  socket.destroy()
})

test('killed at any moment of the way back: the host has its address, and the next engine completes it', async () => {
  clean()
  const before = layer3(NIC)
  const socket = await echoSocket('192.168.77.1', '192.168.77.5')
  const moments = await atEveryMoment(
    (move) => move.giveBack(NETWORK),
    (move) => move.take(NETWORK),
    async (store, n) => {
      assert.match(sh('ip -4 -o addr show up'), /inet 192\.168\.77\.5\/24/, `moment ${n}`)
      await stillTalks(socket, `moment ${n}`)
      mover({ store }).recover(() => false)
      assert.deepEqual(layer3(NIC), before, `moment ${n}`)
      await stillTalks(socket, `moment ${n}, next engine`)
    },
  )
  assert.ok(moments >= 8, `${moments} moments`)
  socket.destroy()
  assert.deepEqual(problems, [])
})

test('a record of an earlier boot is forgotten: the machine has configured its card anew', () => {
  clean()
  const before = layer3(NIC)
  const store = memoryStore()
  store.put(`nic/${NETWORK.id}`, {
    networkId: NETWORK.id,
    nic: NIC,
    bridge: BRIDGE,
    bootId: 'earlier',

    wasUp: true,
    phase: 'taken',
    addresses: [],
    routes: [],
  })
  const move = mover({ store })
  move.recover(() => false)
  assert.deepEqual(store.list('nic/'), [])
  assert.deepEqual(layer3(NIC), before)
})
