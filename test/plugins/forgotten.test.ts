/** What a Docker Engine has forgotten is given back to the cluster's pools: not at once, and nothing that anybody may have. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { type Ip, parseCidr, parseIp } from '../../src/base/address.ts'
import { systemClock } from '../../src/base/clock.ts'
import { NetError } from '../../src/base/errors.ts'
import { newId } from '../../src/base/ids.ts'
import { silentLogger } from '../../src/base/ports.ts'
import { systemRng } from '../../src/base/rng.ts'
import { MemoryStoreServer } from '../../src/cluster/store/memory.ts'
import { Forgotten } from '../../src/faces/docker-plugin/forgotten.ts'
import { memoryStore } from '../../src/store/memory-store.ts'
import { startMember } from '../cluster/model-lab.ts'

const LAN = parseCidr('192.168.9.0/24')
const server = new MemoryStoreServer(systemClock)
const awake = setInterval(() => {}, 1000) // the clock's timers keep no process alive
after(() => clearInterval(awake))

test('an address, and then the whole pool, that the engine has not at two looks after five minutes', async () => {
  const member = startMember({ name: 'h1', store: server.open({ clock: systemClock, logger: silentLogger }) })
  await member.service.membership.join()
  const { pools } = member.service
  const user = newId(systemRng)
  await pools.join({ user, for: 'docker', name: 'lan', family: 4, subnet: LAN })
  pools.confirm(LAN, user)
  const take = async (text: string): Promise<Ip> => {
    const ip = await pools.take({ subnet: LAN, user, ip: parseIp(text), name: '' })
    pools.confirm(LAN, user, ip)
    return ip
  }
  const runs = await take('192.168.9.2')
  await take('192.168.9.3')
  let later = 0
  let docker: { subnets: Set<string>; addresses: Set<string> } | undefined = { subnets: new Set([LAN]), addresses: new Set([runs]) }
  const forgotten = new Forgotten({
    pools: () => pools,
    docker: {
      inUse: async () => {
        if (docker === undefined) throw new NetError('unavailable', 'no answer')
        return docker
      },
    },
    records: memoryStore(),
    clock: { ...systemClock, now: () => systemClock.now() + later },
    log: silentLogger,
  })
  const held = () => pools.claims.addresses().map(({ ip }) => ip)
  const lookTwice = async () => {
    await forgotten.look()
    await forgotten.look()
  }
  await lookTwice()
  assert.equal(held().length, 2, 'it may be on its way')
  later = 301_000
  await forgotten.look()
  assert.equal(held().length, 2, 'one look is not enough')
  await forgotten.look()
  assert.deepEqual(held(), [runs])
  docker = undefined
  await lookTwice()
  assert.deepEqual(held(), [runs], 'an engine that does not answer has forgotten nothing')
  const other = newId(systemRng)
  const foreign = parseCidr('192.168.10.0/24')
  await pools.join({ user: other, for: 'docker', name: 'of an engine that is not asked', family: 4, subnet: foreign })
  pools.confirm(foreign, other)
  later = 602_000
  docker = { subnets: new Set(), addresses: new Set() }
  await lookTwice()
  assert.deepEqual([held(), (await pools.list()).map(({ subnet }) => subnet)], [[], [foreign]])
  forgotten.close()
  await member.close()
})
