/** `causeway daemon`: configuration, pid file, listeners, signals. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { messageOf, NetError } from '../base/errors.ts'
import type { Logger } from '../base/ports.ts'
import { type CniServer, listenCni } from '../faces/cni/server.ts'
import { readPidFile } from '../sys/pidfile.ts'
import { cniSocket, type DaemonConfig, parseDaemonConfig } from './config.ts'
import { type RunningEngine, startEngine } from './engine.ts'
import { createLogger } from './logger.ts'

/** Runs until SIGTERM, SIGINT or a shutdown request. Returns the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  let config: DaemonConfig
  try {
    const parsed = parseDaemonConfig(argv)
    if (parsed.validateOnly) {
      process.stdout.write('configuration OK\n')
      return 0
    }
    config = parsed.config
  } catch (error) {
    if (isHelp(error)) return 0
    process.stderr.write(`causeway daemon: ${messageOf(error)}\n`)
    return 1
  }
  if (process.getuid?.() !== 0) {
    process.stderr.write('causeway daemon: needs root to make namespaces and bridges; try: sudo causeway daemon\n')
    return 1
  }
  const log = createLogger(config.logLevel, process.stderr.isTTY ?? false)
  for (const note of config.notes) log.info(`accepted without effect: ${note}`)
  let stop: () => void = () => {}
  const stopped = new Promise<void>((resolve) => {
    stop = resolve
  })
  let engine: RunningEngine | undefined
  let cni: CniServer | undefined
  let hasPidFile = false
  try {
    writePidFile(config.pidfile)
    hasPidFile = true
    engine = await startEngine(config, log, stop)
    await listen(engine, config, log)
    cni = await tryListenCni(engine, config, log)
  } catch (error) {
    log.error(`failed to start daemon: ${messageOf(error)}`)
    process.stderr.write(`failed to start daemon: ${messageOf(error)}\n`)
    await engine?.close()
    if (hasPidFile) rmSync(config.pidfile, { force: true })
    return 1
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop)
  process.on('SIGHUP', () => log.info('configuration is read at start only'))
  process.on('SIGPIPE', () => {})
  log.info('Causeway is ready', { hosts: config.hosts, pid: process.pid })
  await stopped
  log.info('stopping')
  await cni?.close()
  await engine.close()
  rmSync(config.pidfile, { force: true })
  return 0
}

/** What `causeway plugin serve` means: an engine without a default network, with the sockets of its drivers where Docker looks. */
export function pluginArguments(args: readonly string[]): string[] {
  const isGiven = (option: string) => args.some((word) => word === option || word.startsWith(`${option}=`))
  return [
    ...(isGiven('--docker-plugins') ? [] : ['--docker-plugins', '/run/docker/plugins']),
    ...(isGiven('--bridge') || isGiven('-b') || isGiven('--bip') ? [] : ['--bridge', 'none']),
    ...args,
  ]
}

async function listen(engine: RunningEngine, config: DaemonConfig, log: Logger): Promise<void> {
  for (const host of config.hosts) {
    const url = /^(unix|tcp|fd):\/\/(.*)$/.exec(host) ?? ['', 'tcp', host]
    if (url[1] === 'unix') {
      const path = url[2] as string
      mkdirSync(dirname(path), { recursive: true })
      await engine.api.listenUnix(path, { mode: 0o660, ...(config.group ? { group: config.group } : {}) })
      continue
    }
    if (url[1] === 'fd')
      throw new NetError('invalid', `Cannot listen on "${host}": socket activation is not offered, use unix:// or tcp://`)
    const { address, port } = splitHostPort(url[2] as string, config.tls.enabled ? 2376 : 2375)
    await engine.api.listenTcp(address, port, tlsOptions(config))
    log.info('listening', { address, port, tls: config.tls.enabled })
  }
}

/** Without it CNI calls are served by processes of their own, and nothing else is missing. */
async function tryListenCni(engine: RunningEngine, config: DaemonConfig, log: Logger): Promise<CniServer | undefined> {
  try {
    return await listenCni(cniSocket(config), engine.cni, log)
  } catch (error) {
    log.warn('CNI calls are not served', { error: messageOf(error) })
    return undefined
  }
}

function splitHostPort(text: string, fallback: number): { address: string; port: number } {
  const m = /^(?:\[([^\]]+)\]|([^:]*))(?::(\d+))?$/.exec(text)
  if (m === null) throw new NetError('invalid', `invalid bind address (${text}): expected host:port`)
  return { address: m[1] ?? (m[2] || '127.0.0.1'), port: m[3] === undefined ? fallback : Number(m[3]) }
}

function tlsOptions(config: DaemonConfig) {
  const { tls } = config
  if (!tls.enabled) return undefined
  if (!tls.cert || !tls.key) throw new NetError('invalid', 'TLS needs --tlscert and --tlskey')
  if (tls.verify && !tls.ca) throw new NetError('invalid', '--tlsverify needs --tlscacert')
  return { cert: readFileSync(tls.cert), key: readFileSync(tls.key), ...(tls.ca ? { ca: readFileSync(tls.ca) } : {}), verify: tls.verify }
}

function writePidFile(path: string): void {
  const running = readPidFile(path)
  if (running !== undefined && running !== process.pid)
    throw new NetError(
      'conflict',
      `pid file found, ensure causeway is not running or delete ${path}: process with PID ${running} is still running`,
    )
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, `${process.pid}\n`)
}

function isHelp(error: unknown): boolean {
  return (error as { code?: string }).code === 'commander.helpDisplayed'
}
