/**
 * `causeway cni install` writes the executable that container runtimes start; `causeway cni exec` is what that executable becomes when
 * no engine runs: the same work by an engine of this process, for one call.
 */
import { accessSync, chmodSync, constants, mkdirSync, readFileSync, realpathSync, renameSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { isAbsolute, join, resolve } from 'node:path'
import { systemClock } from '../base/clock.ts'
import { hasCode, messageOf, NetError } from '../base/errors.ts'
import { CNI, CniError, errorJson } from '../faces/cni/errors.ts'
import { decodeAnswer, encodeRequest, type StubAnswer, type StubRequest } from '../faces/cni/frames.ts'
import { stubFile } from '../faces/cni/stub/stub.ts'
import { cniSocket, type DaemonConfig, parseDaemonConfig } from './config.ts'
import { startEngine } from './engine.ts'
import { createLogger } from './logger.ts'

const DEFAULT_DIR = '/opt/cni/bin'
/** How long the executable waits for the engine. */
const ANSWER_SECONDS = 60
/** How long a call without an engine waits for its turn: calls come one after the other then. */
const TURN_MS = 50_000
const TURN_PAUSE_MS = 25

/** `argv` begins behind `cni`; `launcher` is the command's own file. Returns the exit code. */
export async function main(argv: readonly string[], launcher: string): Promise<number> {
  const [verb, ...rest] = argv
  if (verb === 'exec') return exec(rest)
  try {
    if (verb !== 'install') throw new NetError('invalid', `there is no "causeway cni ${verb ?? ''}": it is install or exec`)
    install(rest, launcher)
    return 0
  } catch (error) {
    process.stderr.write(`causeway cni: ${messageOf(error)}\n`)
    return 1
  }
}

// ---- install -----------------------------------------------------------------------------------------------------------------------

/** Takes `--dir` and `--name` out of the arguments; the rest are the engine's own options. */
function installOptions(argv: readonly string[]): { dir: string; name: string; engine: string[] } {
  let [dir, name] = [DEFAULT_DIR, 'causeway']
  const engine: string[] = []
  for (let i = 0; i < argv.length; i++) {
    const [, key, joined] = /^--(dir|name)(?:=(.*))?$/.exec(argv[i] as string) ?? []
    if (key === undefined) {
      engine.push(argv[i] as string)
      continue
    }
    const value = joined ?? argv[++i]
    if (!value) throw new NetError('invalid', `flag needs an argument: --${key}`)
    if (key === 'dir') dir = resolve(value)
    else name = value
  }
  if (name.includes('/')) throw new NetError('invalid', `"${name}" is no file name: say the folder with --dir`)
  return { dir, name, engine }
}

function install(argv: readonly string[], launcher: string): void {
  const { dir, name, engine } = installOptions(argv)
  const { config } = parseDaemonConfig(engine)
  for (const root of [config.execRoot, config.dataRoot])
    if (!isAbsolute(root)) throw new NetError('invalid', `"${root}" should be an absolute path: the plugin is started in any folder`)
  const node = realpathSync(process.execPath)
  accessSync(node, constants.X_OK)
  const file = stubFile(process.arch, {
    socket: cniSocket(config),
    fallback: [node, launcher, 'cni', 'exec', ...engine],
    timeoutSeconds: ANSWER_SECONDS,
  })
  mkdirSync(dir, { recursive: true })
  const path = join(dir, name)
  const fresh = join(dir, `.${name}.${process.pid}`)
  writeFileSync(fresh, file)
  chmodSync(fresh, 0o755)
  renameSync(fresh, path) // a runtime that starts it now starts the old one or the new one, never half of one
  process.stdout.write(`${path}\n`)
}

// ---- exec --------------------------------------------------------------------------------------------------------------------------

async function exec(argv: readonly string[]): Promise<number> {
  let answer: StubAnswer
  try {
    const { config } = parseDaemonConfig(argv)
    if (process.getuid?.() !== 0) throw new CniError(CNI.notAvailable, 'the plugin needs root to make network interfaces')
    answer = await answerOnce(config, { env: cniVariables(), stdin: readInput() })
  } catch (error) {
    const failure = error instanceof CniError ? error : new CniError(CNI.tryLater, messageOf(error))
    answer = { status: 1, output: errorJson(failure, undefined) }
  }
  const out = answer.onStderr ? process.stderr : process.stdout
  await new Promise<void>((done) => out.write(answer.output, () => done()))
  return answer.status
}

/** Standard input to its end; none at all is an empty one. */
function readInput(): Uint8Array {
  try {
    return readFileSync(0)
  } catch {
    return new Uint8Array()
  }
}

function cniVariables(): Record<string, string> {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => name.startsWith('CNI_'))) as Record<string, string>
}

/** Does one request: by an engine that has come up meanwhile, else by one of its own when it is this call's turn. */
async function answerOnce(config: DaemonConfig, request: StubRequest): Promise<StubAnswer> {
  const log = createLogger('warn', true) // on standard error: standard output belongs to the result
  const until = systemClock.now() + TURN_MS
  for (;;) {
    const answer = await ask(cniSocket(config), request)
    if (answer !== undefined) return answer
    try {
      const engine = await startEngine(config, log, () => {}, { once: true })
      try {
        const answer = await engine.cni.answer(request)
        await engine.cni.networks.removeAllIdle()
        return answer
      } finally {
        await engine.close()
      }
    } catch (error) {
      if (!hasCode(error, 'conflict')) throw error
      if (systemClock.now() > until) throw new CniError(CNI.tryLater, 'other calls are being served', messageOf(error), error)
      await systemClock.sleep(TURN_PAUSE_MS)
    }
  }
}

/** Undefined when nobody listens. */
function ask(socket: string, request: StubRequest): Promise<StubAnswer | undefined> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let isConnected = false
    const connection = connect(socket, () => {
      isConnected = true
      connection.end(encodeRequest(request))
    })
    connection.setTimeout(ANSWER_SECONDS * 1000, () => connection.destroy(new CniError(CNI.tryLater, 'the engine did not answer')))
    connection.on('data', (chunk) => chunks.push(chunk))
    connection.on('error', (error) => (isConnected ? reject(error) : resolve(undefined)))
    connection.on('end', () => {
      try {
        resolve(decodeAnswer(Buffer.concat(chunks)))
      } catch (error) {
        reject(error)
      }
    })
  })
}
