/** Every verb: its line in help and the module that holds it, loaded when the verb is used and not before. */
import type { Command } from './command.ts'

export interface Listing {
  readonly summary: string
}
export interface Verb extends Listing {
  readonly load: () => Promise<Command>
}
export interface Group extends Listing {
  readonly commands: Readonly<Record<string, Verb>>
}

export type Found =
  | { readonly kind: 'command'; readonly load: () => Promise<Command>; readonly depth: number }
  | { readonly kind: 'group'; readonly path: string; readonly group: Group }
  | { readonly kind: 'unknown'; readonly path: string }

const verb = (summary: string, load: () => Promise<Command>): Verb => ({ summary, load })

const CONTAINER: Readonly<Record<string, Verb>> = {
  attach: verb("Attach this terminal to a running container's streams", () => import('./verbs/attach.ts').then((m) => m.attach)),
  cp: verb('Copy files between a container and this machine', () => import('./verbs/cp.ts').then((m) => m.cp)),
  create: verb('Create a new container', () => import('./verbs/run.ts').then((m) => m.create)),
  diff: verb("Show what changed in a container's file system", () => import('./verbs/container-read.ts').then((m) => m.diff)),
  exec: verb('Run a command in a running container', () => import('./verbs/exec.ts').then((m) => m.exec)),
  export: verb("Write a container's file system as a tar archive", () => import('./verbs/export.ts').then((m) => m.exportContainer)),
  inspect: verb('Show one or more containers in full', () => import('./verbs/inspect.ts').then((m) => m.inspectContainer)),
  kill: verb('Send a signal to one or more containers', () => import('./verbs/lifecycle.ts').then((m) => m.kill)),
  logs: verb('Show what a container printed', () => import('./verbs/logs.ts').then((m) => m.logs)),
  ls: verb('List containers', () => import('./verbs/ps.ts').then((m) => m.ps)),
  pause: verb('Freeze all processes of one or more containers', () => import('./verbs/lifecycle.ts').then((m) => m.pause)),
  port: verb('List published ports, or add and remove them live', () => import('./verbs/port.ts').then((m) => m.port)),
  prune: verb('Remove all stopped containers', () => import('./verbs/prune.ts').then((m) => m.pruneContainers)),
  rename: verb('Rename a container', () => import('./verbs/lifecycle.ts').then((m) => m.rename)),
  restart: verb('Restart one or more containers', () => import('./verbs/lifecycle.ts').then((m) => m.restart)),
  rm: verb('Remove one or more containers', () => import('./verbs/lifecycle.ts').then((m) => m.rm)),
  run: verb('Create and run a new container from an image', () => import('./verbs/run.ts').then((m) => m.run)),
  start: verb('Start one or more stopped containers', () => import('./verbs/start.ts').then((m) => m.start)),
  stats: verb('Show what containers use, live', () => import('./verbs/stats.ts').then((m) => m.stats)),
  stop: verb('Stop one or more running containers', () => import('./verbs/lifecycle.ts').then((m) => m.stop)),
  top: verb('Show the processes of a container', () => import('./verbs/container-read.ts').then((m) => m.top)),
  unpause: verb('Thaw one or more containers', () => import('./verbs/lifecycle.ts').then((m) => m.unpause)),
  update: verb('Change limits and restart policy of containers', () => import('./verbs/update.ts').then((m) => m.update)),
  wait: verb('Wait until containers stop, then print their exit codes', () => import('./verbs/lifecycle.ts').then((m) => m.wait)),
}

const IMAGE: Readonly<Record<string, Verb>> = {
  bootstrap: verb("Make busybox:latest from this machine's static busybox", () => import('./verbs/bootstrap.ts').then((m) => m.bootstrap)),
  history: verb('Show the history of an image', () => import('./verbs/image-ls.ts').then((m) => m.history)),
  import: verb('Create an image from a tar archive of a file system', () => import('./verbs/image-transfer.ts').then((m) => m.importImage)),
  inspect: verb('Show one or more images in full', () => import('./verbs/inspect.ts').then((m) => m.inspectImage)),
  load: verb('Load images from a tar archive or standard input', () => import('./verbs/image-transfer.ts').then((m) => m.load)),
  ls: verb('List images', () => import('./verbs/image-ls.ts').then((m) => m.images)),
  prune: verb('Remove unused images', () => import('./verbs/prune.ts').then((m) => m.pruneImages)),
  pull: verb('Download an image from a registry', () => import('./verbs/image-transfer.ts').then((m) => m.pull)),
  push: verb('Upload an image to a registry', () => import('./verbs/image-transfer.ts').then((m) => m.push)),
  rm: verb('Remove one or more images', () => import('./verbs/image-change.ts').then((m) => m.rmi)),
  save: verb('Write images as a tar archive', () => import('./verbs/image-transfer.ts').then((m) => m.save)),
  tag: verb('Give an image one more name', () => import('./verbs/image-change.ts').then((m) => m.tag)),
}

const NETWORK: Readonly<Record<string, Verb>> = {
  connect: verb('Connect a container to a network', () => import('./verbs/network-connect.ts').then((m) => m.connect)),
  create: verb('Create a network', () => import('./verbs/network-create.ts').then((m) => m.create)),
  disconnect: verb('Disconnect a container from a network', () => import('./verbs/network-connect.ts').then((m) => m.disconnect)),
  inspect: verb('Show one or more networks in full', () => import('./verbs/inspect.ts').then((m) => m.inspectNetwork)),
  ls: verb('List networks', () => import('./verbs/network-ls.ts').then((m) => m.ls)),
  prune: verb('Remove all unused networks', () => import('./verbs/prune.ts').then((m) => m.pruneNetworks)),
  rm: verb('Remove one or more networks', () => import('./verbs/network-ls.ts').then((m) => m.rm)),
}

const VOLUME: Readonly<Record<string, Verb>> = {
  create: verb('Create a volume', () => import('./verbs/volume.ts').then((m) => m.create)),
  inspect: verb('Show one or more volumes in full', () => import('./verbs/inspect.ts').then((m) => m.inspectVolume)),
  ls: verb('List volumes', () => import('./verbs/volume.ts').then((m) => m.ls)),
  prune: verb('Remove unused volumes', () => import('./verbs/prune.ts').then((m) => m.pruneVolumes)),
  rm: verb('Remove one or more volumes', () => import('./verbs/volume.ts').then((m) => m.rm)),
}

const SYSTEM: Readonly<Record<string, Verb>> = {
  df: verb('Show disk usage', () => import('./verbs/system-df.ts').then((m) => m.df)),
  events: verb('Show events as they happen', () => import('./verbs/events.ts').then((m) => m.events)),
  info: verb('Show the state of the engine and its host', () => import('./verbs/info.ts').then((m) => m.info)),
  prune: verb('Remove unused containers, networks and images', () => import('./verbs/prune.ts').then((m) => m.pruneSystem)),
}

const CLUSTER: Readonly<Record<string, Verb>> = {
  evict: verb('Free everything that a host owns, when it will not come back', () => import('./verbs/cluster.ts').then((m) => m.evict)),
  inspect: verb('Show a host of the cluster and what it owns', () => import('./verbs/cluster.ts').then((m) => m.inspect)),
  ls: verb('List the hosts of the cluster, and whether the shared store answers', () => import('./verbs/cluster.ts').then((m) => m.ls)),
  verify: verb("Compare every host's kernel with the shared store, and probe the paths between hosts", () =>
    import('./verbs/cluster.ts').then((m) => m.verify),
  ),
}

const IPAM: Readonly<Record<string, Verb>> = {
  ls: verb("List the cluster's pools of the IPAM driver causeway, or who holds the addresses of one", () =>
    import('./verbs/ipam.ts').then((m) => m.ls),
  ),
}

const NETNS: Readonly<Record<string, Verb>> = {
  exec: verb("Run a program of this machine inside a container's or network's namespace", () =>
    import('./verbs/netns.ts').then((m) => m.exec),
  ),
  ls: verb('List the network namespaces of the engine', () => import('./verbs/netns.ts').then((m) => m.ls)),
}

const CNI: Readonly<Record<string, Verb>> = {
  exec: verb('Do one CNI call without an engine; what the installed plugin becomes when none runs', () =>
    import('./verbs/cni.ts').then((m) => m.exec),
  ),
  install: verb('Write the CNI plugin into a folder of plugins', () => import('./verbs/cni.ts').then((m) => m.install)),
}

const OWN: Readonly<Record<string, Verb>> = {
  up: verb('Start the engine in the background', () => import('./verbs/up.ts').then((m) => m.up)),
  down: verb('Stop the engine; containers go on, unless --all', () => import('./verbs/up.ts').then((m) => m.down)),
  status: verb('Show whether the engine runs, and where', () => import('./verbs/up.ts').then((m) => m.status)),
  daemon: verb('Run the engine in the foreground', () => import('./verbs/daemon.ts').then((m) => m.daemon)),
  doctor: verb('Check this host: kernel, runtimes, forwarding, foreign firewalls', () => import('./verbs/doctor.ts').then((m) => m.doctor)),
  wire: verb('Plug an interface into a container or a namespace by hand', () => import('./verbs/wire.ts').then((m) => m.wire)),
  veth: verb('Show which interface of a container is which port of a bridge', () => import('./verbs/veth.ts').then((m) => m.veth)),
  repairs: verb('Show what was found changed by others and put right', () => import('./verbs/doctor.ts').then((m) => m.repairs)),
}

const PLUGIN: Readonly<Record<string, Verb>> = {
  serve: verb("Offer Causeway's drivers to the Docker Engines of this host", () => import('./verbs/plugin.ts').then((m) => m.serve)),
}

const GROUPS: Readonly<Record<string, Group>> = {
  cluster: { summary: 'Manage the hosts that share networks', commands: CLUSTER },
  cni: { summary: 'Causeway as a CNI plugin', commands: CNI },
  container: { summary: 'Manage containers', commands: CONTAINER },
  image: { summary: 'Manage images', commands: IMAGE },
  ipam: { summary: 'Addresses that the hosts of a cluster share', commands: IPAM },
  netns: { summary: 'Look into network namespaces', commands: NETNS },
  network: { summary: 'Manage networks', commands: NETWORK },
  plugin: { summary: 'Be a plugin of Docker Engines', commands: PLUGIN },
  system: { summary: 'Manage the engine', commands: SYSTEM },
  volume: { summary: 'Manage volumes', commands: VOLUME },
}

const TOP: Readonly<Record<string, Verb>> = {
  ...Object.fromEntries(Object.entries(CONTAINER).filter(([name]) => !['ls', 'prune', 'inspect'].includes(name))),
  ps: CONTAINER['ls'] as Verb,
  events: SYSTEM['events'] as Verb,
  history: IMAGE['history'] as Verb,
  images: IMAGE['ls'] as Verb,
  import: IMAGE['import'] as Verb,
  info: SYSTEM['info'] as Verb,
  inspect: verb('Show containers, networks, images and volumes in full', () => import('./verbs/inspect.ts').then((m) => m.inspect)),
  load: IMAGE['load'] as Verb,
  login: verb('Log in to a registry', () => import('./verbs/login.ts').then((m) => m.login)),
  logout: verb('Log out from a registry', () => import('./verbs/login.ts').then((m) => m.logout)),
  pull: IMAGE['pull'] as Verb,
  push: IMAGE['push'] as Verb,
  rmi: IMAGE['rm'] as Verb,
  save: IMAGE['save'] as Verb,
  tag: IMAGE['tag'] as Verb,
  version: verb('Show the versions of client and engine', () => import('./verbs/version.ts').then((m) => m.version)),
}

/** Other spellings, as Docker's CLI takes them. */
const SYNONYMS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  container: { list: 'ls', ps: 'ls', remove: 'rm' },
  image: { list: 'ls', remove: 'rm' },
  network: { list: 'ls', remove: 'rm' },
  volume: { list: 'ls', remove: 'rm' },
  netns: { list: 'ls' },
  cluster: { list: 'ls' },
  ipam: { list: 'ls' },
}

/** Finds the verb at the start of `words`. */
export function find(words: readonly string[]): Found {
  const [first = '', second] = words
  const group = GROUPS[first]
  if (group !== undefined) {
    if (second === undefined || second === '--help' || second === '-h') return { kind: 'group', path: first, group }
    const command = group.commands[SYNONYMS[first]?.[second] ?? second]
    return command === undefined ? { kind: 'unknown', path: first } : { kind: 'command', load: command.load, depth: 2 }
  }
  const command = OWN[first] ?? TOP[first]
  return command === undefined ? { kind: 'unknown', path: '' } : { kind: 'command', load: command.load, depth: 1 }
}

export function rootSections(): { title: string; entries: [string, Listing][] }[] {
  const common = ['run', 'exec', 'ps', 'logs', 'inspect', 'port', 'images', 'pull', 'info', 'version']
  const sorted = (table: Readonly<Record<string, Listing>>) => Object.entries(table).toSorted(([a], [b]) => (a < b ? -1 : 1))
  return [
    { title: 'Engine Commands', entries: Object.entries(OWN) },
    { title: 'Common Commands', entries: common.map((name) => [name, TOP[name] as Verb]) },
    { title: 'Management Commands', entries: sorted(GROUPS) },
    { title: 'Commands', entries: sorted(TOP).filter(([name]) => !common.includes(name)) },
  ]
}

/** Names below a path, for suggestions. */
export function namesBelow(path: string): string[] {
  return path === '' ? [...Object.keys(OWN), ...Object.keys(TOP), ...Object.keys(GROUPS)] : Object.keys(GROUPS[path]?.commands ?? {})
}

/** Every command with its path, for tests. */
export function allCommands(): [string, Verb][] {
  const below = Object.entries(GROUPS).flatMap(([g, { commands }]) =>
    Object.entries(commands).map(([n, v]): [string, Verb] => [`${g} ${n}`, v]),
  )
  return [...Object.entries(OWN), ...Object.entries(TOP), ...below]
}
