/**
 * The OCI runtimes that containers can ask for by name: those of the configuration, and runc and crun where they are installed. The first
 * two are also what a container gets that asks for none. Each keeps its state in a folder of its own.
 */
import { existsSync, readdirSync } from 'node:fs'
import { basename } from 'node:path'
import { NetError } from '../base/errors.ts'
import { findProgram } from '../sys/process.ts'

/** One entry of daemon.json's `runtimes`. */
export interface ConfiguredRuntime {
  /** A path, or a name that is looked up in PATH. */
  readonly path: string
  readonly args: readonly string[]
}

export interface Runtime {
  readonly name: string
  /** As it was configured; undefined: the configuration does not know the name any more. */
  readonly path: string | undefined
  readonly args: readonly string[]
  /** Folder of its state. */
  readonly root: string
}

/** Names that clients write when they mean the ordinary runtime, see docker's `--runtime`. */
const ORDINARY = ['runc', 'io.containerd.runc.v2']
const INSTALLED = ['runc', 'crun']

export interface RuntimesOptions {
  /** Run-time folder of the engine. */
  readonly run: string
  readonly configured?: Readonly<Record<string, ConfiguredRuntime>>
  /** `default-runtime`: a configured name, a program or a path; '' = runc, else crun. */
  readonly fallback?: string
}

export class Runtimes {
  readonly #run: string
  readonly #configured: Readonly<Record<string, ConfiguredRuntime>>
  /** What a container gets that asks for nothing. */
  readonly default: Runtime

  /** Throws `invalid` when the default is neither configured nor a program. */
  constructor({ run, configured = {}, fallback = '' }: RuntimesOptions) {
    this.#run = run
    this.#configured = configured
    this.default = this.#default(fallback)
  }

  #default(fallback: string): Runtime {
    // crun refuses hosts with hybrid cgroups, so it is not preferred
    if (fallback === '') return this.#make(findProgram('runc') === undefined && findProgram('crun') !== undefined ? 'crun' : 'runc')
    if (this.#configured[fallback] !== undefined) return this.#make(fallback)
    if (findProgram(fallback) === undefined) throw new NetError('invalid', `specified default runtime '${fallback}' does not exist`)
    return this.#make(basename(fallback), fallback)
  }

  #make(name: string, path = this.#configured[name]?.path ?? name): Runtime {
    const root = name === 'runc' ? `${this.#run}/runc` : `${this.#run}/runtimes/${name}`
    return { name, path, args: this.#configured[name]?.args ?? [], root }
  }

  /** The runtime of that name, the default for ''. Undefined when neither the configuration nor the machine has it. */
  find(name: string): Runtime | undefined {
    if (name === '' || name === this.default.name) return this.default
    if (this.#configured[name] !== undefined) return this.#make(name)
    if (ORDINARY.includes(name)) return findProgram('runc') === undefined ? this.default : this.#make('runc')
    return INSTALLED.includes(name) && findProgram(name) !== undefined ? this.#make(name) : undefined
  }

  /** The same for a container that exists: what it left behind is found even if nobody knows its runtime any more. */
  of(name: string): Runtime {
    return this.find(name) ?? { ...this.#make(basename(name)), path: undefined }
  }

  /** Everything that containers can ask for. */
  all(): Runtime[] {
    const installed = INSTALLED.filter((name) => findProgram(name) !== undefined)
    const names = new Set([...installed, ...Object.keys(this.#configured), this.default.name])
    return [...names].sort().flatMap((name) => this.find(name) ?? [])
  }

  /** Containers that a runtime has state of. */
  known(): { readonly id: string; readonly runtime: Runtime }[] {
    const names = ['runc', ...entries(`${this.#run}/runtimes`)]
    return names.flatMap((name) => {
      const runtime = this.of(name)
      const root = this.#make(name).root // `runc` may mean another one today
      return idsIn(root).map((id) => ({ id, runtime: { ...runtime, root } }))
    })
  }
}

/** The program to start. Throws `invalid` for a runtime that is no longer configured, `internal` when the program is not there. */
export function programOf({ name, path }: Runtime): string {
  if (path === undefined) throw new NetError('invalid', `unknown or invalid runtime name: ${name}`)
  const program = findProgram(path)
  if (program !== undefined) return program
  const why = path.includes('/') ? `stat ${path}: no such file or directory` : 'executable file not found in $PATH'
  throw new NetError('internal', `error while looking up the specified runtime path: exec: ${JSON.stringify(path)}: ${why}`)
}

/** Ids of the containers in a runtime's folder. runc and crun make a folder of that name, others files that begin with it. */
export function idsIn(root: string): string[] {
  return [...new Set(entries(root).flatMap((name) => /^[0-9a-f]{64}/.exec(name)?.[0] ?? []))]
}

function entries(dir: string): string[] {
  return existsSync(dir) ? readdirSync(dir) : []
}
