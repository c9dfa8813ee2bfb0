/** The IPAM part of a network create request, checked as a whole before anything is reserved. Docker's sentences: clients match them. */
import { type Cidr, cidrContains, cidrOf, type Family, familyOf, splitPrefix, tryParseIp, trySplitPrefix } from '../base/address.ts'
import { NetError } from '../base/errors.ts'
import type { IpamPoolRequest } from '../model/network.ts'

/**
 * Throws one `invalid` error that lists every problem of the configuration. Subnets of a family that is switched off are not looked at
 * (as in Docker, which ignores them).
 */
export function validateIpam(configs: readonly IpamPoolRequest[], options: { readonly enableIpv6: boolean }): void {
  const problems = configs.flatMap((config) => problemsOf(config, options.enableIpv6))
  if (problems.length === 0) return
  throw new NetError('invalid', `invalid network config:\n${joinProblems(problems)}`)
}

/** One problem stands alone; several are a list. */
function joinProblems(problems: readonly string[]): string {
  return problems.length === 1 ? (problems[0] as string) : problems.map((problem) => `* ${problem}`).join('\n')
}

interface Parent {
  /** How the subnet is named in messages; Go prints an absent one as `invalid Prefix`. */
  readonly name: string
  readonly cidr: Cidr | undefined
  readonly family: Family
}

function problemsOf(config: IpamPoolRequest, enableIpv6: boolean): string[] {
  const problems: string[] = []
  let parent: Parent = { name: 'invalid Prefix', cidr: undefined, family: 4 }
  if (config.subnet) {
    const split = trySplitPrefix(config.subnet)
    if (split === undefined) return [`invalid subnet ${config.subnet}: invalid CIDR block notation`]
    const cidr = cidrOf(split.ip, split.length)
    const given = `${split.ip}/${split.length}`
    parent = { name: given, cidr, family: familyOf(cidr) }
    if (parent.family === 6 && !enableIpv6) return []
    if (cidr !== given) problems.push(`invalid subnet ${given}: it should be ${cidr}`)
  }
  if (config.ipRange) problems.push(...rangeProblems(config.ipRange, parent))
  if (config.gateway) problems.push(...addressProblems(`invalid gateway ${config.gateway}`, config.gateway, parent))
  for (const [name, text] of Object.entries(config.aux ?? {}))
    problems.push(...addressProblems(`invalid auxiliary address ${name}`, text, parent))
  return problems
}

function rangeProblems(text: string, parent: Parent): string[] {
  const split = trySplitPrefix(text)
  if (split === undefined) return [`invalid ip-range ${text}: invalid CIDR block notation`]
  const given = `${split.ip}/${split.length}`
  const what = `invalid ip-range ${given}`
  if (familyOf(split.ip) !== parent.family) return [`${what}: parent subnet is an IPv${parent.family} block`]
  const problems: string[] = []
  if (parent.cidr !== undefined && split.length < splitPrefix(parent.cidr).length)
    problems.push(`${what}: CIDR block is bigger than its parent subnet ${parent.name}`)
  const masked = cidrOf(split.ip, split.length)
  if (masked !== given) problems.push(`${what}: it should be ${masked}`)
  // a block that is bigger than its parent contains it; saying that it lies elsewhere would be wrong
  const apart = parent.cidr === undefined || (problems.length === 0 && !cidrContains(parent.cidr, split.ip))
  if (apart) problems.push(`${what}: parent subnet ${parent.name} doesn't contain ip-range`)
  return problems
}

function addressProblems(what: string, text: string, parent: Parent): string[] {
  const ip = tryParseIp(text)
  if (ip === undefined) return [`${what}: invalid address`]
  if (familyOf(ip) !== parent.family) return [`${what}: parent subnet is an IPv${parent.family} block`]
  if (parent.cidr === undefined || !cidrContains(parent.cidr, ip))
    return [`${what}: parent subnet ${parent.name} doesn't contain this address`]
  return []
}
