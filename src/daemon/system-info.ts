/** What `GET /info` and `GET /version` say about this host and this build. */
import { readFileSync } from 'node:fs'
import { arch, cpus, hostname, release, totalmem } from 'node:os'
import type { SystemInfo, VersionFacts } from '../api/types.ts'
import type { Runtimes } from '../containers/runtimes.ts'
import { builtinDrivers } from '../drivers/registry.ts'
import { findProgram } from '../sys/process.ts'
import { tryReadSysctl } from '../sys/sysctl.ts'
import type { DaemonConfig } from './config.ts'

const GO_ARCH: Readonly<Record<string, string>> = {
  x64: 'amd64',
  arm64: 'arm64',
  arm: 'arm',
  ia32: '386',
  riscv64: 'riscv64',
  s390x: 's390x',
  ppc64: 'ppc64le',
}
const UNAME_ARCH: Readonly<Record<string, string>> = { x64: 'x86_64', arm64: 'aarch64' }

export function versionFacts(runtime: { name: string; version: string }): VersionFacts {
  return {
    dockerVersion: '28.3.0',
    version: packageVersion(),
    gitCommit: 'unknown',
    buildTime: '2026-11-20T00:00:00.000000000+00:00',
    os: 'linux',
    arch: GO_ARCH[arch()] ?? arch(),
    kernelVersion: release(),
    components: [{ Name: runtime.name, Version: runtime.version }],
  }
}

function packageVersion(): string {
  try {
    return (JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }).version
  } catch {
    return '0.1.0' // bundled elsewhere
  }
}

export function systemInfo(id: string, config: DaemonConfig, runtimes: Runtimes): SystemInfo {
  const os = osRelease()
  const forwarding = tryReadSysctl('net/ipv4/ip_forward') === '1'
  return {
    ID: id,
    Name: hostname(),
    KernelVersion: release(),
    OperatingSystem: os['PRETTY_NAME'] ?? 'Linux',
    OSVersion: os['VERSION_ID'] ?? '',
    Architecture: UNAME_ARCH[arch()] ?? arch(),
    NCPU: cpus().length,
    MemTotal: totalmem(),
    DockerRootDir: config.dataRoot,
    Driver: 'overlay2',
    CgroupDriver: 'cgroupfs',
    Runtimes: Object.fromEntries(
      runtimes
        .all()
        .map(({ name, path = '', args }) => [name, { path: findProgram(path) ?? path, ...(args.length > 0 ? { runtimeArgs: args } : {}) }]),
    ),
    DefaultRuntime: runtimes.default.name,
    ...(config.networking.addressPools
      ? { DefaultAddressPools: config.networking.addressPools.map((p) => ({ Base: p.base, Size: p.size })) }
      : {}),
    FirewallBackend: { Driver: 'nftables', Info: [['Table', 'inet causeway']] },
    IPv4Forwarding: forwarding,
    LiveRestoreEnabled: true,
    Labels: config.labels,
    NetworkPlugins: builtinDrivers.map((driver) => driver.name).sort(),
    Warnings: [],
  }
}

function osRelease(): Record<string, string> {
  try {
    const lines = readFileSync('/etc/os-release', 'utf8').split('\n')
    return Object.fromEntries(
      lines.flatMap((line) => {
        const m = /^([A-Z_]+)="?(.*?)"?$/.exec(line)
        return m ? [[m[1] as string, m[2] as string]] : []
      }),
    )
  } catch {
    return {}
  }
}
