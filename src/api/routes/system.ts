/** `/_ping`, `/version`, `/info`, `/system/df`, `/auth`. */
import type { Container } from '../../containers/types.ts'
import { ok } from '../context.ts'
import { object, str } from '../decode.ts'
import { notFound } from '../errors.ts'
import { diskUsage } from '../shapes/disk-usage.ts'
import type { Answer, ApiOptions, Route } from '../types.ts'
import { maxVersion, minVersion } from '../versions.ts'

const AUTH = object({ username: str, password: str, email: str, serveraddress: str, identitytoken: str, auth: str })

/** What is asked of the engine itself: ping, version, info, disk usage, log-in. */
export function systemRoutes(options: ApiOptions): Route[] {
  const ping = (): Answer => ({
    status: 200,
    body: 'OK',
    headers: {
      'Content-Type': 'text/plain; charset=utf-8',
      // "1": `docker build` then asks this API, and reads our sentence instead of failing inside a builder.
      'Builder-Version': '1',
      'Cache-Control': 'no-cache, no-store, must-revalidate',
      Pragma: 'no-cache',
      Swarm: 'inactive',
    },
  })
  return [
    { method: 'GET', path: '/_ping', handler: ping },
    { method: 'HEAD', path: '/_ping', handler: ping },
    { method: 'GET', path: '/version', handler: () => ok(versionJson(options)) },
    { method: 'GET', path: '/info', handler: (ctx) => ok(infoJson(options, ctx.version)) },
    { method: 'GET', path: '/system/df', since: '1.25', handler: async (ctx) => ok(await diskUsage(options, ctx)) },
    {
      // there are none; `docker inspect <anything>` asks for a plugin of that name too, and goes on only after a 404
      method: 'GET',
      path: '/plugins/:name/json',
      handler: (ctx) => {
        throw notFound(`plugin "${ctx.param('name')}" not found`)
      },
    },
    {
      method: 'POST',
      path: '/auth',
      async handler(ctx) {
        const body = (await ctx.json(AUTH)) ?? {}
        const { username = '', password = '', serveraddress = '' } = body
        const { granted, status } = await options.images.login({ username, password, registry: serveraddress }, ctx.signal)
        return granted ? ok({ Status: status, IdentityToken: '' }) : { status: 401, body: { message: status } }
      },
    },
  ]
}

function versionJson({ version }: ApiOptions): object {
  const engine = {
    ApiVersion: maxVersion(version),
    MinAPIVersion: minVersion(version),
    GitCommit: version.gitCommit,
    GoVersion: '',
    Os: version.os,
    Arch: version.arch,
    KernelVersion: version.kernelVersion,
    BuildTime: version.buildTime,
  }
  return {
    Platform: { Name: `Causeway ${version.version}` },
    Components: [
      { Name: 'Engine', Version: version.dockerVersion, Details: { ...engine, Experimental: String(version.experimental ?? false) } },
      ...(version.components ?? []),
    ],
    Version: version.dockerVersion,
    ...engine,
    ...(version.experimental === true ? { Experimental: true } : {}),
  }
}

function infoJson(options: ApiOptions, apiVersion: number): object {
  const given = options.info()
  const { NetworkPlugins, FirewallBackend, ...facts } = given
  const containers = options.containers.list()
  const count = (test: (container: Container) => boolean): number => containers.filter(test).length
  const paused = count((c) => c.state.status === 'paused')
  return {
    Containers: containers.length,
    ContainersRunning: count((c) => c.state.status === 'running' || c.state.status === 'restarting'),
    ContainersPaused: paused,
    ContainersStopped: count((c) => ['created', 'exited', 'dead', 'removing'].includes(c.state.status)),
    Images: options.images.list().length,
    Driver: 'overlay2',
    DriverStatus: [],
    Plugins: {
      Volume: ['local'],
      Network: NetworkPlugins ?? ['bridge', 'host', 'null'],
      Authorization: null,
      Log: ['json-file', 'k8s-file', 'local', 'none'],
    },
    MemoryLimit: true,
    SwapLimit: true,
    ...(apiVersion < 42 ? { KernelMemory: false, KernelMemoryTCP: false } : {}),
    CpuCfsPeriod: true,
    CpuCfsQuota: true,
    CPUShares: true,
    CPUSet: true,
    PidsLimit: true,
    IPv4Forwarding: true,
    ...(apiVersion < 50 ? { BridgeNfIptables: false, BridgeNfIp6tables: false } : {}),
    Debug: false,
    NFd: 0,
    OomKillDisable: false,
    NGoroutines: 0,
    SystemTime: new Date(options.clock.now()).toISOString(),
    LoggingDriver: 'json-file',
    CgroupDriver: 'cgroupfs',
    CgroupVersion: '2',
    NEventsListener: 0,
    OSVersion: '',
    OSType: 'linux',
    IndexServerAddress: 'https://index.docker.io/v1/',
    RegistryConfig: {
      AllowNondistributableArtifactsCIDRs: [],
      AllowNondistributableArtifactsHostnames: [],
      InsecureRegistryCIDRs: ['::1/128', '127.0.0.0/8'],
      IndexConfigs: { 'docker.io': { Name: 'docker.io', Mirrors: [], Secure: true, Official: true } },
      Mirrors: [],
    },
    GenericResources: null,
    HttpProxy: '',
    HttpsProxy: '',
    NoProxy: '',
    Labels: [],
    ExperimentalBuild: options.version.experimental ?? false,
    ServerVersion: options.version.dockerVersion,
    Runtimes: {},
    DefaultRuntime: 'runc',
    Swarm: { NodeID: '', NodeAddr: '', LocalNodeState: 'inactive', ControlAvailable: false, Error: '', RemoteManagers: null },
    LiveRestoreEnabled: true,
    Isolation: '',
    InitBinary: 'docker-init',
    ContainerdCommit: { ID: '' },
    RuncCommit: { ID: '' },
    InitCommit: { ID: '' },
    SecurityOptions: ['name=seccomp,profile=builtin'],
    CDISpecDirs: [],
    Warnings: null,
    ...facts,
    ...(apiVersion >= 49 && FirewallBackend !== undefined ? { FirewallBackend } : {}),
  }
}
