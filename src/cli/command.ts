/** A command of the CLI as a value. */
import type { Context } from './context.ts'
import type { OptionTable, ValuesOf } from './options.ts'

export interface Example {
  readonly line: string
  readonly why?: string
}

export interface CommandSpec<O extends OptionTable> {
  /** Full path below `causeway`: `network create`. */
  readonly path: string
  readonly summary: string
  /** What follows the path in the usage line: `[OPTIONS] NETWORK`. */
  readonly usage: string
  /** Least and greatest number of arguments. */
  readonly args: readonly [number, number]
  readonly options: O
  readonly examples: readonly Example[]
  readonly aliases?: readonly string[]
  /** More text for help. */
  readonly notes?: string
  /** Options end at the first argument: the rest belongs to the container. */
  readonly passThrough?: boolean
  /** Exit code of a failure: 125 for run and create, so that it is not mistaken for the container's. Such failures are followed by a hint on help. */
  readonly failureCode?: number
  /** Every word is an argument; only `--help` as the first one is ours. */
  readonly raw?: boolean
  readonly run: (context: Context, args: readonly string[], options: ValuesOf<O>) => Promise<number | undefined>
}

/** What the registry hands out: the types of the options are closed over. */
export interface Command {
  readonly spec: CommandSpec<OptionTable>
}

/** Ties a command's options to the types that its `run` gets. */
export function defineCommand<O extends OptionTable>(spec: CommandSpec<O>): Command {
  return { spec: spec as unknown as CommandSpec<OptionTable> }
}
