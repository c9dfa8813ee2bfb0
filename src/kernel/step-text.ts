/** What a step does, in the words of an error: verb phrase and object. */
import type { Address, FdbEntry, Neighbour, PolicyRule, Route, Step } from '../model/kernel-state.ts'

export interface StepText {
  readonly op: string
  readonly subject: string
}

const VERB: Readonly<Record<string, string>> = { set: 'change' }
const NOUN: Readonly<Record<string, string>> = { addr: 'address', neigh: 'neighbour', fdb: 'forwarding entry' }

/** `{ op: 'add route', subject: 'default via 10.0.0.1 dev eth0' }` */
export function describeStep(step: Step): StepText {
  if (step.op === 'link.deleteGroup') return { op: 'delete link group', subject: String(step.group) }
  const [noun = '', verb = ''] = step.op.split('.')
  return { op: `${VERB[verb] ?? verb} ${NOUN[noun] ?? noun}`, subject: subjectOf(step) }
}

function subjectOf(step: Exclude<Step, { op: 'link.deleteGroup' }>): string {
  switch (step.op) {
    case 'link.add':
      return step.link.name
    case 'link.rename':
      return `${step.dev} to ${step.name}`
    case 'link.set':
    case 'link.move':
    case 'link.delete':
      return step.dev
    case 'addr.add':
    case 'addr.replace':
    case 'addr.delete':
      return addressText(step.addr)
    case 'route.add':
    case 'route.replace':
    case 'route.delete':
      return routeText(step.route)
    case 'neigh.replace':
    case 'neigh.delete':
      return neighbourText(step.neigh)
    case 'fdb.append':
    case 'fdb.replace':
    case 'fdb.delete':
      return fdbText(step.fdb)
    case 'rule.add':
    case 'rule.delete':
      return ruleText(step.rule)
  }
}

const part = (word: string, value: string | number | undefined): string => (value === undefined ? '' : ` ${word} ${value}`)

function addressText(a: Address): string {
  return `${a.address} on ${a.dev}`
}

/** As ip-route(8) would print it. */
function routeText(r: Route): string {
  const type = r.type === undefined || r.type === 'unicast' ? '' : `${r.type} `
  return `${type}${r.dst}${part('via', r.gateway)}${part('dev', r.dev)}${part('table', r.table)}${part('metric', r.metric)}`
}

function neighbourText(n: Neighbour): string {
  return `${n.proxy === true ? 'proxy ' : ''}${n.ip}${part('lladdr', n.mac)} on ${n.dev}`
}

function fdbText(f: FdbEntry): string {
  return `${f.mac}${part('dst', f.dst)} on ${f.dev}`
}

function ruleText(r: PolicyRule): string {
  const mark = r.mark === undefined ? undefined : `0x${r.mark.toString(16)}`
  return `${r.priority}: from ${r.from ?? 'all'}${part('to', r.to)}${part('iif', r.iif)}${part('oif', r.oif)}${part('fwmark', mark)} lookup ${r.table}`
}
