/** A DNS thread that ends twice right after it was ready, and is a good one the third time. Counts in the file that CAUSEWAY_TEST_DEATHS names. */
import { appendFileSync, readFileSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'

const file = process.env['CAUSEWAY_TEST_DEATHS'] as string
appendFileSync(file, 'x')
if (readFileSync(file, 'utf8').length > 2) await import('../../src/dns/worker.ts')
else {
  parentPort?.postMessage({ op: 'ready' })
  setTimeout(() => {
    throw new Error('on purpose')
  }, 50)
}
