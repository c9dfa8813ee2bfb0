/** The cluster's model on the store in memory. */
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/ports.ts'
import { MemoryStoreServer } from '../../src/cluster/store/memory.ts'
import { modelSuite } from './model-suite.ts'

const server = new MemoryStoreServer(systemClock)

modelSuite(
  'memory',
  () => ({
    open: (world) => server.open({ clock: systemClock, logger: silentLogger }, world),
    stop: async () => server.stop(),
    start: async () => server.start(),
    wipe: async () => server.restore({ rows: new Map(), revision: 1 }),
  }),
  300,
)
