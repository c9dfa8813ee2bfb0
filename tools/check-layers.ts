/**
 * Fails on an import that points upwards or sideways, on a ring of folders, and on a rule that matches nothing, and prints why the
 * rule exists. The table in docs/layers.md is read, not repeated: what is written there is what is checked.
 */
import { readdirSync, readFileSync, realpathSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { pathToFileURL } from 'node:url'

/** Why each folder keeps to its list. A folder without a reason, or a reason without a folder, is an error. */
const REASONS: Readonly<Record<string, string>> = {
  base: 'base holds values that everything else is built of; an import from it upwards would tie everything to everything',
  wire: 'codecs know bytes and nothing else, so that they can be tested with captured bytes alone',
  model: 'the model is plain data that the browser page could read; it must not pull in the machine',
  sys: 'sys is the only door to the operating system and must not know what it is opened for',
  kernel: 'kernel verbs are about links and addresses, not about networks and containers',
  plan: 'planners are pure: wanted and observed in, steps out; that is why they can be tested in random order',
  ipam: 'the allocator is arithmetic over addresses and works without a kernel',
  dns: 'the resolver answers from tables that it is given; it must not look into the engine',
  store: 'the store keeps values and must not know whose they are',
  drivers: 'a driver turns options into wanted state and never touches the kernel itself',
  engine: 'the controller owns the state; faces and containers come to it, it does not go to them',
  cluster: 'the cluster is an authority beside the controller: it knows the shared store and the overlay, not the containers',
  remote: 'plugins are an authority beside the controller: they are spoken to, and know nothing of the engine',
  lan: 'what touches the physical network (DHCP, moved NICs, wires) is an authority beside the controller',
  faces: 'faces translate what other engines ask; they see types of the engine and go through its contract',
  containers: 'containers sit beside the controller and know its types, not its parts',
  insight: 'explanations only read; they see types of the engine so that they cannot change it',
  api: 'the API translates and must be testable without an engine',
  client: 'the client knows the API, nothing else: it runs where no engine is',
  cli: 'the command line knows the client, nothing else, so that it starts fast and works remotely',
  daemon: 'the daemon is the one place that wires everything together',
}

/** Folders that must run without Node, and modules that only sys may use. */
const NO_NODE = new Set(['wire', 'model', 'plan'])
const SYS_ONLY = new Set(['koffi', 'node:child_process', 'child_process'])

interface Rule {
  readonly folders: ReadonlySet<string>
  readonly typesOnly: ReadonlySet<string>
}

function readRules(root: string): Map<string, Rule | 'everything'> {
  const rules = new Map<string, Rule | 'everything'>()
  for (const line of readFileSync(join(root, 'docs/layers.md'), 'utf8').split('\n')) {
    const cells = /^\| ([a-z]+) \| (.+) \|$/.exec(line)
    if (cells === null || cells[1] === 'folder') continue
    const [, folder, list] = cells as unknown as [string, string, string]
    if (list === 'everything') rules.set(folder, 'everything')
    else {
      const names = list.split(', ').filter((name) => name !== 'nothing')
      rules.set(folder, {
        folders: new Set([folder, ...names.map((name) => name.replace(' (types)', ''))]),
        typesOnly: new Set(names.filter((name) => name.endsWith(' (types)')).map((name) => name.replace(' (types)', ''))),
      })
    }
  }
  return rules
}

interface Import {
  readonly specifier: string
  readonly typeOnly: boolean
  readonly line: number
}

function importsOf(text: string): Import[] {
  const found: Import[] = []
  const pattern = /^(?:import|export)\s+(type\s+)?(?:([^'"`;]*?)\s+from\s+)?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)(\.)?/gm
  for (const match of text.matchAll(pattern)) {
    const [, type, names, from, dynamic] = match
    const named = names !== undefined && /^\{[^}]*\}$/.test(names.trim())
    const allTypes =
      named &&
      names
        .replace(/[{}]/g, '')
        .split(',')
        .every((n) => n.trim() === '' || n.trim().startsWith('type '))
    found.push({
      specifier: (from ?? dynamic) as string,
      typeOnly: type !== undefined || allTypes,
      line: text.slice(0, match.index).split('\n').length,
    })
  }
  return found
}

/** Everything that is wrong below `root` (a checkout), one text each; empty when the layers hold. */
export function layerProblems(root: string, reasons: Readonly<Record<string, string>> = REASONS): string[] {
  const rules = readRules(root)
  const found: string[] = []
  const uses = new Map<string, Map<string, string>>()
  const folders = readdirSync(join(root, 'src'), { withFileTypes: true })
    .filter((e) => e.isDirectory())
    .map((e) => e.name)
  for (const folder of folders) if (!rules.has(folder)) found.push(`src/${folder} has no row in docs/layers.md`)
  for (const folder of rules.keys())
    if (!folders.includes(folder))
      found.push(`docs/layers.md has a row for "${folder}", which matches nothing: src/${folder} does not exist`)
  for (const folder of rules.keys())
    if (reasons[folder] === undefined) found.push(`docs/layers.md lists "${folder}", for which tools/check-layers.ts has no reason`)
  for (const folder of Object.keys(reasons))
    if (!rules.has(folder)) found.push(`tools/check-layers.ts has a reason for "${folder}", which docs/layers.md does not list`)

  for (const folder of folders) {
    const rule = rules.get(folder)
    const reason = reasons[folder] ?? ''
    for (const entry of readdirSync(join(root, 'src', folder), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !entry.name.endsWith('.ts')) continue
      const file = relative(root, join(entry.parentPath, entry.name))
      const isTest = entry.name.endsWith('.test.ts')
      for (const { specifier, typeOnly, line } of importsOf(readFileSync(join(root, file), 'utf8'))) {
        const complain = (what: string, why = reason) => found.push(`${file}:${line} ${what}\n    because ${why}`)
        if (specifier.startsWith('.')) {
          const target = normalize(join(dirname(file), specifier))
          const [top, to] = target.split('/')
          if (top !== 'src' || to === undefined) {
            if (!(isTest && top === 'testkit')) complain(`imports ${target} from outside src`, 'only src is shipped')
            continue
          }
          if (!isTest && to !== folder) {
            const from = uses.get(folder) ?? new Map<string, string>()
            uses.set(folder, from.set(to, from.get(to) ?? `${file}:${line}`))
          }
          if (isTest || rule === undefined || rule === 'everything') continue
          if (!rule.folders.has(to)) complain(`imports ${target}: ${folder} may not import ${to}`)
          else if (rule.typesOnly.has(to) && !typeOnly)
            complain(`imports ${target}: ${folder} may import types of ${to} only (import type)`)
        } else if (!isTest && !typeOnly) {
          if (SYS_ONLY.has(specifier) && folder !== 'sys') complain(`imports ${specifier}`, 'sys is the only door to the operating system')
          if (NO_NODE.has(folder) && (specifier.startsWith('node:') || !specifier.includes(':'))) complain(`imports ${specifier}`)
        }
      }
    }
  }
  return [...found, ...rings(uses)]
}

/** Folders that reach themselves over others, also over types alone: each ring once, with the import that makes every step of it. */
function rings(uses: ReadonlyMap<string, ReadonlyMap<string, string>>): string[] {
  const found = new Map<string, string>()
  const walk = (path: readonly string[]): void => {
    for (const [next, where] of uses.get(path.at(-1) as string) ?? []) {
      if (next === path[0]) {
        const steps = path.map(
          (folder, i) => `${folder} -> ${path[i + 1] ?? next} (${uses.get(folder)?.get(path[i + 1] ?? next) ?? where})`,
        )
        const key = [...path].sort().join()
        if (!found.has(key))
          found.set(
            key,
            `folders in a ring: ${steps.join(', ')}\n    because folders that need each other cannot be understood or tested alone`,
          )
      } else if (!path.includes(next)) walk([...path, next])
    }
  }
  for (const folder of [...uses.keys()].sort()) walk([folder])
  return [...found.values()]
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(realpathSync(process.argv[1])).href) {
  const found = layerProblems('.')
  for (const problem of found) console.log(problem)
  if (found.length > 0) console.log(`${found.length} layer problem${found.length === 1 ? '' : 's'}`)
  process.exit(found.length > 0 ? 1 : 0)
}
