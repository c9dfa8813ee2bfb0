/**
 * Real Consul servers for a test: one or three members, with TLS and access control when wanted.
 *
 *   const consul = await startConsul({ members: 3, token: true })
 *   consul.storeUrl('/prefix')   consul.storeOpts   consul.members[0].kill9()   consul.members[0].start()   await consul.close()
 */
import { execFile, execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { request as tlsRequest } from 'node:https'
import { join } from 'node:path'
import { serverProcess } from './server-process.ts'
import { type StoreMember, type StoreServers, type StoreServersOptions, storeGround, storeLives } from './store-servers.ts'

export interface ConsulOptions extends StoreServersOptions {
  /** Access control with default deny; `storeOpts` has a token that may do everything. */
  readonly token?: boolean
}

export interface ConsulLab extends StoreServers {
  /** One request to a running member, with certificates and token; throws on a status of 300 and more. */
  api(method: string, path: string, body?: Uint8Array | string): Promise<Buffer>
}

const PROGRAM = join(process.env['CAUSEWAY_STORES'] ?? '/var/tmp/causeway-stores', 'consul/usr/bin/consul')

/** Why there is no Consul here, or undefined when there is one: for `skip`. */
export function consulMissing(): string | undefined {
  try {
    execFileSync(PROGRAM, ['version'], { stdio: 'ignore' })
    return undefined
  } catch {
    return `not tested: no Consul at ${PROGRAM}; tools/cluster-stores unpacks Debian 11's when the network is there`
  }
}

export async function startConsul(options: ConsulOptions = {}): Promise<ConsulLab> {
  const missing = consulMissing()
  if (missing !== undefined) throw new Error(missing)
  const ground = storeGround('consul', options)
  const { dir, places, certs } = ground
  const ips = places.map((place) => place.ip)
  const token = options.token === true ? randomUUID() : ''
  const members = places.map(({ ip, netns }, i): StoreMember => {
    const config = {
      server: true,
      bootstrap_expect: places.length,
      node_name: `m${i}`,
      node_id: randomUUID(),
      data_dir: join(dir, `m${i}`),
      bind_addr: ip,
      client_addr: ip,
      retry_join: ips,
      retry_interval: '1s',
      log_level: 'WARN',
      disable_update_check: true,
      // Consul forgets a killed server after a while: here it comes back
      autopilot: { cleanup_dead_servers: false },
      performance: { raft_multiplier: 1 },
      ports: { dns: -1, ...(certs === undefined ? {} : { http: -1, https: 8500 }) },
      ...(token === '' ? {} : { acl: { enabled: true, default_policy: 'deny', tokens: { master: token, agent: token } } }),
      ...(certs === undefined
        ? {}
        : { ca_file: certs.ca, cert_file: certs.serverCert, key_file: certs.serverKey, verify_incoming_https: options.tls === 'mutual' }),
    }
    const file = join(dir, `m${i}.json`)
    writeFileSync(file, JSON.stringify(config))
    mkdirSync(join(dir, `m${i}`), { recursive: true })
    return { ...serverProcess(() => [PROGRAM, 'agent', '-config-file', file], netns), name: `m${i}`, ip, endpoint: `${ip}:8500` }
  })

  const ask = (ip: string, method: string, path: string, body?: Uint8Array | string): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const tls =
        certs === undefined ? {} : { ca: readFileSync(certs.ca), cert: readFileSync(certs.clientCert), key: readFileSync(certs.clientKey) }
      const headers = token === '' ? {} : { 'x-consul-token': token }
      const make = certs === undefined ? request : tlsRequest
      const req = make({ host: ip, port: 8500, method, path, headers, agent: false, timeout: 5000, ...tls }, (res) => {
        const chunks: Buffer[] = []
        res.on('data', (chunk: Buffer) => chunks.push(chunk))
        res.on('error', reject)
        res.on('end', () => {
          const answer = Buffer.concat(chunks)
          if ((res.statusCode ?? 0) < 300) resolve(answer)
          else reject(new Error(`${method} ${path}: ${res.statusCode} ${answer}`))
        })
      })
      req.on('timeout', () => req.destroy(new Error('no answer')))
      req.on('error', reject)
      req.end(body)
    })
  /** From a place of its own, where this process's sockets do not reach. */
  const askThere = (ip: string, netns: string, method: string, path: string, body?: Uint8Array | string): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const args = [`--net=${netns}`, 'curl', '-sSf', '-m', '5', '-X', method, ...(body === undefined ? [] : ['--data-binary', '@-'])]
      if (certs !== undefined) args.push('--cacert', certs.ca, '--cert', certs.clientCert, '--key', certs.clientKey)
      if (token !== '') args.push('-H', `x-consul-token: ${token}`)
      const url = `${certs === undefined ? 'http' : 'https'}://${ip}:8500${path}`
      const child = execFile('nsenter', [...args, url], { encoding: 'buffer', maxBuffer: 64 << 20 }, (error, out, err) => {
        // "The requested URL returned error: 404"
        if (error === null) resolve(out)
        else reject(new Error(`${method} ${path}: ${/error: (\d+)/.exec(err.toString())?.[1] ?? error.code} ${err}`))
      })
      child.stdin?.end(body)
    })
  const api: ConsulLab['api'] = async (method, path, body) => {
    let last: unknown = new Error('no member runs')
    for (const member of members.filter((m) => m.pid() !== 0)) {
      try {
        const netns = places.find((place) => place.ip === member.ip)?.netns
        return await (netns === undefined ? ask(member.ip, method, path, body) : askThere(member.ip, netns, method, path, body))
      } catch (error) {
        last = error
      }
    }
    throw last
  }
  const answers = () =>
    api('GET', '/v1/kv/?keys&separator=/&consistent').then(
      () => true,
      // an empty store answers 404
      (error: Error) => / 404 /.test(error.message),
    )
  const lab: ConsulLab = {
    ...storeLives('consul', ground, members, answers),
    storeOpts: { ...ground.tlsOpts, ...(token === '' ? {} : { 'kv.token': token }) },
    api,
    async stop() {
      await Promise.all(members.map((member) => member.kill9()))
    },
    async save(file) {
      writeFileSync(file, await api('GET', '/v1/snapshot'))
    },
    async restore(file) {
      await api('PUT', '/v1/snapshot', readFileSync(file))
      await lab.ready()
    },
    async wipe() {
      await lab.stop()
      for (const member of members) rmSync(join(dir, member.name), { recursive: true, force: true })
      await lab.start()
    },
  }
  try {
    await lab.start()
  } catch (error) {
    await lab.close()
    throw error
  }
  return lab
}
