/**
 * Seccomp profiles as `--security-opt seccomp=<file>` brings them (the client sends the file's text), and what becomes of them in the OCI
 * specification. The format is moby's (profiles/seccomp/seccomp.go): the OCI one, and rules that hold for some architectures,
 * capabilities or kernels only. What the runtime or the kernel does not know, the runtime refuses at start, as under Docker.
 */
import { NetError } from '../base/errors.ts'
import type { SeccompProfile } from './seccomp.ts'

interface Conditions {
  readonly arches?: readonly string[] | null
  readonly caps?: readonly string[] | null
  /** `4.8`: the oldest kernel of includes; of excludes the first for which the rule does not hold. */
  readonly minKernel?: string
}

interface Rule {
  readonly name?: string
  readonly names?: readonly string[] | null
  readonly action: string
  readonly errnoRet?: number | null
  readonly args?: readonly { index: number; value: number; valueTwo?: number; op: string }[] | null
  readonly includes?: Conditions | null
  readonly excludes?: Conditions | null
}

export interface DockerProfile {
  readonly defaultAction: string
  readonly defaultErrnoRet?: number | null
  readonly architectures?: readonly string[] | null
  readonly archMap?: readonly { readonly architecture: string; readonly subArchitectures?: readonly string[] | null }[] | null
  readonly flags?: readonly string[] | null
  readonly syscalls?: readonly Rule[] | null
}

/** The machine that a profile is applied on. */
export interface Machine {
  /** Go's spelling: `amd64`. */
  readonly arch: string
  /** `6.18.1-x`. */
  readonly kernel: string
}

const ARCHITECTURE: Readonly<Record<string, string>> = {
  amd64: 'SCMP_ARCH_X86_64',
  '386': 'SCMP_ARCH_X86',
  arm64: 'SCMP_ARCH_AARCH64',
  arm: 'SCMP_ARCH_ARM',
  riscv64: 'SCMP_ARCH_RISCV64',
  ppc64le: 'SCMP_ARCH_PPC64LE',
  s390x: 'SCMP_ARCH_S390X',
}

function broken(why: string): NetError {
  return new NetError('invalid', `Decoding seccomp profile failed: ${why}`)
}

/** Reads and checks a profile. Throws `invalid`. */
export function parseProfile(text: string): DockerProfile {
  let profile: DockerProfile
  try {
    profile = JSON.parse(text) as DockerProfile
  } catch (cause) {
    throw broken(cause instanceof Error ? cause.message : 'not JSON')
  }
  if (profile === null || typeof profile !== 'object' || Array.isArray(profile)) throw broken('expected an object')
  if (typeof profile.defaultAction !== 'string') throw broken('defaultAction: expected a string')
  for (const key of ['architectures', 'archMap', 'flags', 'syscalls'] as const) {
    const value: unknown = profile[key] ?? []
    if (!Array.isArray(value)) throw broken(`${key}: expected a list`)
  }
  if (profile.architectures?.length && profile.archMap?.length) {
    throw new NetError(
      'invalid',
      "'architectures' and 'archMap' were specified in the seccomp profile, use either 'architectures' or 'archMap'",
    )
  }
  for (const [i, rule] of (profile.syscalls ?? []).entries()) checkRule(rule, `syscalls[${i}]`)
  return profile
}

function checkRule(rule: Rule, at: string): void {
  if (rule === null || typeof rule !== 'object') throw broken(`${at}: expected an object`)
  if (rule.name && rule.names?.length) {
    throw new NetError('invalid', "'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'")
  }
  if (typeof rule.action !== 'string') throw broken(`${at}.action: expected a string`)
  const lists: unknown[] = [rule.names, rule.args, rule.includes?.arches, rule.includes?.caps, rule.excludes?.arches, rule.excludes?.caps]
  if (!lists.every((list) => list === undefined || list === null || Array.isArray(list))) throw broken(`${at}: expected lists`)
  for (const { minKernel } of [rule.includes ?? {}, rule.excludes ?? {}])
    if (minKernel !== undefined && !/^\d+\.\d+$/.test(minKernel)) throw broken(`${at}: invalid minKernel "${minKernel}"`)
}

/** The OCI form of a profile for a container with these capabilities on this machine. */
export function compileProfile(profile: DockerProfile, capabilities: readonly string[], machine: Machine): SeccompProfile {
  const native = ARCHITECTURE[machine.arch]
  const mapped = profile.archMap?.find(({ architecture }) => architecture === native)
  const architectures = profile.architectures?.length
    ? profile.architectures
    : mapped === undefined
      ? []
      : [mapped.architecture, ...(mapped.subArchitectures ?? [])]
  const rules = (profile.syscalls ?? []).filter(({ includes, excludes }) => holds(includes ?? {}, excludes ?? {}, capabilities, machine))
  return {
    defaultAction: profile.defaultAction,
    ...(typeof profile.defaultErrnoRet === 'number' ? { defaultErrnoRet: profile.defaultErrnoRet } : {}),
    ...(architectures.length === 0 ? {} : { architectures }),
    ...(profile.flags?.length ? { flags: profile.flags } : {}),
    syscalls: rules.map(({ name, names, action, errnoRet, args }) => ({
      names: name ? [name] : (names ?? []),
      action,
      ...(typeof errnoRet === 'number' ? { errnoRet } : {}),
      ...(args?.length ? { args } : {}),
    })),
  }
}

function holds(includes: Conditions, excludes: Conditions, capabilities: readonly string[], { arch, kernel }: Machine): boolean {
  if (excludes.arches?.includes(arch) || excludes.caps?.some((cap) => capabilities.includes(cap))) return false
  if (excludes.minKernel !== undefined && isAtLeast(kernel, excludes.minKernel)) return false
  if (includes.arches?.length && !includes.arches.includes(arch)) return false
  if (includes.minKernel !== undefined && !isAtLeast(kernel, includes.minKernel)) return false
  return includes.caps?.every((cap) => capabilities.includes(cap)) ?? true
}

function isAtLeast(kernel: string, wanted: string): boolean {
  const [major = 0, minor = 0] = kernel.split(/[.-]/).map(Number)
  const [wantedMajor = 0, wantedMinor = 0] = wanted.split('.').map(Number)
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)
}

/** The text of `seccomp=…` among the security options; undefined = the default profile. Docker takes `:` for `=` too. */
export function seccompOption(options: readonly string[]): string | undefined {
  const value = options.findLast((option) => /^seccomp[:=]/.test(option))?.slice('seccomp='.length)
  return value === 'builtin' ? undefined : value
}

/** Refuses security options that Docker does not know, and profiles that cannot be read. Throws `invalid`. */
export function checkSecurityOptions(options: readonly string[]): void {
  for (const option of options) {
    if (option === 'no-new-privileges') continue
    const [, key, value] = /^([^:=]+)[:=]([\s\S]*)$/.exec(option) ?? []
    const shown = JSON.stringify(option.slice(0, 100))
    if (key === undefined || value === undefined) throw new NetError('invalid', `invalid --security-opt 1: ${shown}`)
    if (!['label', 'apparmor', 'seccomp', 'no-new-privileges', 'writable-cgroups'].includes(key))
      throw new NetError('invalid', `invalid --security-opt 2: ${shown}`)
  }
  const profile = seccompOption(options)
  if (profile !== undefined && profile !== 'unconfined') parseProfile(profile)
}
