/**
 * A container service on the real runc and conmon, with the smallest possible neighbours: a root file system that is a folder with
 * busybox in it, one image, volumes that are folders, and a network controller that only makes namespaces.
 */
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { systemClock } from '../../src/base/clock.ts'
import { NetError } from '../../src/base/errors.ts'
import { silentLogger } from '../../src/base/ports.ts'
import { systemRng } from '../../src/base/rng.ts'
import type { ContainerDeps } from '../../src/containers/deps.ts'
import { createEventBus } from '../../src/containers/events.ts'
import type { RootfsService } from '../../src/containers/rootfs-types.ts'
import { Containers } from '../../src/containers/service.ts'
import type { CreateRequest, EngineEvent, ImageService, ImageSummary, Volume, VolumeService } from '../../src/containers/types.ts'
import type { NetworkController } from '../../src/engine/types.ts'
import type { SandboxInfo, SandboxRequest } from '../../src/model/endpoint.ts'
import { memoryStore } from '../../src/store/memory-store.ts'
import type { Store } from '../../src/store/types.ts'
import { createNetns, initNetns, isNetnsMounted, removeNetns } from '../../src/sys/netns.ts'
import { Reactor } from '../../src/sys/reactor.ts'

const APPLETS =
  'sh sleep echo cat ls id env pwd kill true false head wc stty tr mkdir touch test trap printf seq hostname dd mount ip ps'.split(' ')

const IMAGE: ImageSummary = {
  id: `sha256:${'a'.repeat(64)}`,
  parentId: '',
  repoTags: ['busybox:latest'],
  repoDigests: [],
  created: '2026-01-01T00:00:00Z',
  size: 0,
  architecture: 'amd64',
  os: 'linux',
  author: '',
  config: { Cmd: ['sh'], Env: ['PATH=/bin'] },
  layers: [],
  comment: '',
  history: [],
}

export interface Lab {
  readonly dir: string
  readonly containers: Containers
  readonly deps: ContainerDeps
  readonly events: EngineEvent[]
  readonly sandboxes: Map<string, SandboxRequest>
  readonly store: Store
  /** Set to make the next openSandbox fail. */
  failNetwork: NetError | undefined
  /** Ends the service as a crash would: nothing is stopped. */
  crash(): Promise<void>
  close(): Promise<void>
}

function folderRootfs(dir: string): RootfsService {
  const at = (id: string) => `${dir}/rootfs/${id}`
  const no = () => Promise.reject(new NetError('not-implemented', 'not in this lab'))
  return {
    async prepare(id) {
      for (const sub of ['bin', 'etc', 'proc', 'sys', 'dev', 'tmp', 'data']) mkdirSync(`${at(id)}/${sub}`, { recursive: true })
      linkSync(`${dir}/busybox`, `${at(id)}/bin/busybox`)
      for (const applet of APPLETS) symlinkSync('busybox', `${at(id)}/bin/${applet}`)
      writeFileSync(`${at(id)}/etc/passwd`, 'root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n')
      writeFileSync(`${at(id)}/etc/group`, 'root:x:0:\nweb:x:33:\nlog:x:40:web\n')
      writeFileSync(`${at(id)}/data/seed`, 'from the image')
      writeFileSync(`${at(id)}/etc/notes`, 'text')
      return { graph: { MergedDir: at(id) } }
    },
    mount: async (id) => at(id),
    unmount: async () => {},
    remove: async (id) => rmSync(at(id), { recursive: true, force: true }),
    list: () => (existsSync(`${dir}/rootfs`) ? readdirSync(`${dir}/rootfs`) : []),
    sizeOf: async () => ({ rw: 0, rootFs: 0 }),
    changes: async () => [],
    export: no,
    layer: async function* () {},
    archiveStat: no,
    archiveGet: no,
    archivePut: no,
  }
}

function oneImage(): ImageService {
  const get = (ref: string) => {
    if (ref !== 'busybox' && ref !== 'busybox:latest') throw new NetError('not-found', `No such image: ${ref}`)
    return IMAGE
  }
  return { get, find: get, list: () => [IMAGE] } as unknown as ImageService
}

function folderVolumes(dir: string): VolumeService {
  const known = new Map<string, Volume>()
  let next = 0
  return {
    async create(options) {
      const name = options.name ?? `anonymous${next++}`
      mkdirSync(`${dir}/volumes/${name}`, { recursive: true })
      const volume: Volume = {
        name,
        driver: 'local',
        mountpoint: `${dir}/volumes/${name}`,
        createdAt: '',
        labels: {},
        options: {},
        scope: 'local',
        anonymous: options.anonymous === true || options.name === undefined,
      }
      known.set(name, known.get(name) ?? volume)
      return known.get(name) as Volume
    },
    list: () => [...known.values()],
    get: (name) => known.get(name) as Volume,
    usersOf: () => [],
    async remove(name) {
      known.delete(name)
      rmSync(`${dir}/volumes/${name}`, { recursive: true, force: true })
    },
    sizeOf: async () => 0,
  }
}

function namespaceController(
  dir: string,
  lab: { sandboxes: Map<string, SandboxRequest>; failNetwork: NetError | undefined },
): NetworkController {
  const open = new Map<string, SandboxInfo>()
  const key = (id: string) => `${dir}/netns/${id.slice(0, 12)}`
  const info = (id: string): SandboxInfo => ({ id, key: key(id), containerId: id, endpoints: [], ports: [] })
  const files = (id: string) => lab.sandboxes.get(id)?.filesDir ?? `${dir}/root/containers/${id}`
  return {
    validateEndpoint() {},
    declareAddresses() {},
    findNetwork: (ref: string) => (ref === 'net1id' ? { name: 'net1' } : undefined),
    async openSandbox(request: SandboxRequest) {
      if (lab.failNetwork) throw lab.failNetwork
      if (request.mode === 'private') createNetns(key(request.containerId))
      writeFileSync(`${request.filesDir}/hosts`, `127.0.0.1\tlocalhost\n# of ${request.containerName}\n`)
      writeFileSync(`${request.filesDir}/resolv.conf`, 'nameserver 127.0.0.11\n')
      writeFileSync(`${request.filesDir}/hostname`, `${request.hostname}\n`)
      lab.sandboxes.set(request.containerId, request)
      open.set(request.containerId, info(request.containerId))
      return info(request.containerId)
    },
    async closeSandbox(id: string) {
      lab.sandboxes.delete(id)
      open.delete(id)
      removeNetns(key(id))
    },
    sandboxOf: (id: string) => open.get(id) ?? (isNetnsMounted(key(id)) ? info(id) : undefined),
    filesOf: (id: string) =>
      open.has(id) ? { hosts: `${files(id)}/hosts`, resolvConf: `${files(id)}/resolv.conf`, hostname: `${files(id)}/hostname` } : undefined,
    async renameContainer() {},
  } as unknown as NetworkController
}

/** A new lab, or one over the folder and store of an earlier one. */
export async function openLab(from?: { dir: string; store: Store }): Promise<Lab> {
  await initNetns()
  const dir = from?.dir ?? mkdtempSync(`${tmpdir()}/cwc-`)
  if (!existsSync(`${dir}/busybox`)) copyFileSync('/bin/busybox', `${dir}/busybox`)
  const reactor = await Reactor.start()
  const events: EngineEvent[] = []
  const bus = createEventBus(systemClock)
  bus.subscribe((event) => events.push(event))
  const store = from?.store ?? memoryStore()
  const shared: { sandboxes: Map<string, SandboxRequest>; failNetwork: NetError | undefined } = {
    sandboxes: new Map(),
    failNetwork: undefined,
  }
  const log =
    process.env['LAB_LOG'] === '1'
      ? {
          ...silentLogger,
          warn: (m: string, f?: object) => console.error('warn:', m, f),
          error: (m: string, f?: object) => console.error('error:', m, f),
        }
      : silentLogger
  const deps: ContainerDeps = {
    root: `${dir}/root`,
    run: `${dir}/run`,
    controller: namespaceController(dir, shared),
    images: oneImage(),
    volumes: folderVolumes(dir),
    rootfs: folderRootfs(dir),
    store,
    clock: systemClock,
    rng: systemRng,
    log,
    events: bus,
    reactor,
  }
  const containers = new Containers(deps)
  // the service itself never keeps a process alive: the API's listener does that in the daemon
  const alive = setInterval(() => {}, 1000)
  return Object.assign(shared, {
    dir,
    containers,
    deps,
    events,
    store,
    async crash() {
      containers.close()
      clearInterval(alive)
      await reactor.close()
    },
    async close() {
      for (const c of containers.list()) await containers.remove(c.id, { force: true, volumes: true, link: false })
      containers.close()
      clearInterval(alive)
      await reactor.close()
      if (!from) rmSync(dir, { recursive: true, force: true })
    },
  })
}

/** A create request for `sh -c script`. */
export function shell(
  script: string,
  more: Partial<CreateRequest['config']> = {},
  host: CreateRequest['hostConfig'] = {},
  name?: string,
): CreateRequest {
  return {
    config: { Image: 'busybox', Cmd: ['sh', '-c', script], ...more },
    hostConfig: host,
    endpoints: {},
    ...(name === undefined ? {} : { name }),
  }
}

export async function runToEnd(lab: Lab, request: CreateRequest): Promise<{ id: string; exitCode: number; log: string }> {
  const { id } = await lab.containers.create(request)
  const ended = lab.containers.wait(id, 'next-exit', AbortSignal.timeout(20_000))
  await lab.containers.start(id)
  const { exitCode } = await ended
  return { id, exitCode, log: await logOf(lab, id) }
}

export async function logOf(lab: Lab, id: string, options: { stderr?: boolean } = {}): Promise<string> {
  const all = { stdout: true, stderr: options.stderr ?? true, follow: false, timestamps: false }
  let text = ''
  for await (const chunk of lab.containers.logs(id, all, new AbortController().signal)) text += chunk.data.toString()
  return text
}

export function exists(path: string): boolean {
  try {
    statSync(path)
    return true
  } catch {
    return false
  }
}
