/** Container names: what is allowed, and made-up ones for those who give none. */
import { NetError } from '../base/errors.ts'
import type { Rng } from '../base/ports.ts'

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/

/** Without the leading slash. Throws `invalid` with Docker's text. */
export function checkName(name: string): string {
  const bare = name.replace(/^\//, '')
  if (!NAME.test(bare)) throw new NetError('invalid', `Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`)
  return bare
}

const QUALITIES =
  'amber brisk calm clever coastal copper crisp dapper eager early fair fleet fresh gentle glad golden hardy hazel humble ivory jolly keen kind lively lucky mellow merry mild misty neat noble patient plain prime quick quiet ready silver sleek solid steady stout sunny swift tidal tidy upland vivid warm windy witty'.split(
    ' ',
  )
const THINGS =
  'anchor arch atoll bank barge bay beacon berth bight boom bridge buoy cable canal cape cove crane creek cutter delta dike dock dune eddy estuary fender ferry fjord ford gull haven heron inlet islet jetty keel lagoon ledge lock marsh mole moor otter path pier plover quay reed reef shoal sluice span strand tern tide weir wharf'.split(
    ' ',
  )

/** `steady_heron`; from the third try on with a number, so that it ends when all names are taken. */
export function inventName(rng: Rng, isTaken: (name: string) => boolean): string {
  for (let attempt = 0; ; attempt++) {
    const [a = 0, b = 0, c = 0, d = 0] = rng.bytes(4)
    const base = `${QUALITIES[a % QUALITIES.length]}_${THINGS[b % THINGS.length]}`
    const name = attempt < 3 ? base : `${base}${c * 256 + d}`
    if (!isTaken(name)) return name
  }
}
