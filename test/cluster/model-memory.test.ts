/** The cluster's model on the store in memory. */
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/ports.ts'
import { valueText } from '../../src/cluster/store/keys.ts'
import { MemoryStoreServer } from '../../src/cluster/store/memory.ts'
import { hostileSuite } from './model-hostile.ts'
import { modelSuite } from './model-suite.ts'

const server = new MemoryStoreServer(systemClock)

const stores = () => ({
  open: (world: string) => server.open({ clock: systemClock, logger: silentLogger }, world),
  stop: async () => server.stop(),
  start: async () => server.start(),
  wipe: async () => server.restore({ rows: new Map(), revision: 1 }),
})
modelSuite('memory', stores, 300)
hostileSuite('memory', () => ({
  ...stores(),
  // as the real ones give it: the port's rules for foreign bytes
  rawPut: async (key, value) => server.write([{ key, value: valueText(Buffer.from(value)) }], []),
  largest: 1_000_000,
}))
