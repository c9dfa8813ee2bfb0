/**
 * The executable that runtimes start: made of machine code by `src/faces/cni/stub`, run here as any other program, against an engine
 * that this test plays on a real socket. The aarch64 one runs under QEMU's user emulation where that is installed.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { decodeRequest, encodeAnswer, isWholeRequest, type StubRequest } from '../../src/faces/cni/frames.ts'
import { stubFile } from '../../src/faces/cni/stub/stub.ts'

const dir = mkdtempSync(join(tmpdir(), 'causeway-stub-'))
const socket = `${dir}/cni.sock`
after(() => rmSync(dir, { recursive: true, force: true }))

interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

function install(arch: string, options: { timeoutSeconds?: number; fallback?: string[]; at?: string } = {}): string {
  const path = `${dir}/stub-${arch}-${Math.random().toString(36).slice(2)}`
  const fallback = options.fallback ?? [process.execPath, '-e', 'process.stdin.pipe(process.stdout); console.log(process.env.CNI_COMMAND)']
  writeFileSync(path, stubFile(arch, { socket: options.at ?? socket, fallback, timeoutSeconds: options.timeoutSeconds ?? 20 }))
  chmodSync(path, 0o755)
  return path
}

function run(command: readonly string[], env: Record<string, string>, input: string | Buffer | undefined): Promise<Ran> {
  return new Promise((resolve) => {
    const stdin = input === undefined ? 'ignore' : 'pipe'
    const child = spawn(command[0] as string, command.slice(1), { env, stdio: [stdin, 'pipe', 'pipe'], timeout: 20_000 })
    let out = ''
    let err = ''
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (out += text))
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (err += text))
    child.stdin?.on('error', () => {}).end(input)
    child.on('close', (code) => resolve({ code, out, err }))
  })
}

const open = new Set<Socket>()

/** An engine that answers each request as `handle` says. */
function listen(path: string, handle: (request: StubRequest, connection: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (connection) => {
    const chunks: Buffer[] = []
    connection.on('data', (chunk) => {
      chunks.push(chunk)
      const bytes = chunk.at(-1) === 0 ? Buffer.concat(chunks) : undefined
      if (bytes !== undefined && isWholeRequest(bytes)) handle(decodeRequest(bytes), connection)
    })
    connection.on('error', () => {})
    connection.on('close', () => open.delete(connection))
    open.add(connection)
  })
  return new Promise((resolve) => server.listen(path, () => resolve(server)))
}

/** Absolute, because the stub is run with an environment of its own. */
const pathOf = (program: string): string | undefined =>
  (process.env['PATH'] ?? '')
    .split(':')
    .map((folder) => join(folder, program))
    .find((path) => existsSync(path))
const qemu = pathOf('qemu-aarch64-static') ?? pathOf('qemu-aarch64')
const native = process.arch === 'x64' || process.arch === 'arm64' ? process.arch : undefined
const kinds: { arch: string; run: readonly string[]; skip: string | false }[] = [
  { arch: native ?? 'x64', run: [], skip: native === undefined ? `there is no machine code for ${process.arch}` : false },
  ...(native === 'arm64'
    ? []
    : [{ arch: 'arm64', run: qemu ? [qemu] : [], skip: qemu ? (false as const) : 'QEMU user emulation for aarch64 is not installed' }]),
  { arch: 'other', run: [], skip: existsSync('/usr/bin/perl') ? false : 'there is no perl' },
]

for (const { arch, run: prefix, skip } of kinds)
  describe(`the stub for ${arch}`, { skip }, () => {
    let server: Server
    let last: StubRequest | undefined
    let answer: (connection: Socket) => void = () => {}
    before(async () => {
      server = await listen(socket, (request, connection) => {
        last = request
        answer(connection)
      })
    })
    after(() => {
      for (const connection of open) connection.destroy()
      return new Promise((resolve) => server.close(resolve))
    })
    const reply = (status: number, output: string, onStderr = false) => {
      answer = (connection) => connection.end(encodeAnswer({ status, output, onStderr }))
    }

    test('hands over its CNI variables and standard input, prints the answer, ends with its status', async () => {
      reply(0, '{"cniVersion":"1.1.0"}\n')
      const stub = install(arch)
      const ran = await run(
        [...prefix, stub],
        { PATH: '/bin', CNI_COMMAND: 'ADD', CNI_ARGS: 'A=1;B=ü', OTHER: 'x', CNI_EMPTY: '' },
        '{"name":"n"}',
      )
      assert.deepEqual(ran, { code: 0, out: '{"cniVersion":"1.1.0"}\n', err: '' })
      assert.deepEqual({ ...last?.env }, { CNI_COMMAND: 'ADD', CNI_ARGS: 'A=1;B=ü', CNI_EMPTY: '' })
      assert.equal(Buffer.from(last?.stdin ?? []).toString(), '{"name":"n"}')
    })

    test('an error goes out with its status, an about text to standard error', async () => {
      reply(1, '{"code":7}')
      assert.deepEqual(await run([...prefix, install(arch)], {}, ''), { code: 1, out: '{"code":7}', err: '' })
      reply(0, 'CNI plugin\n', true)
      assert.deepEqual(await run([...prefix, install(arch)], {}, ''), { code: 0, out: '', err: 'CNI plugin\n' })
      reply(0, '')
      assert.deepEqual(await run([...prefix, install(arch)], {}, ''), { code: 0, out: '', err: '' })
    })

    test('input, answer and variables that are larger than its buffer arrive whole', async () => {
      const input = Buffer.alloc(1_000_003, 'abcdefg')
      const output = 'xyz'.repeat(400_001)
      reply(3, output)
      const long = 'v'.repeat(100_000)
      const ran = await run([...prefix, install(arch)], { CNI_ARGS: long, CNI_PATH: `${long}p`, CNI_NETNS: '/n' }, input)
      assert.equal(ran.code, 3)
      assert.ok(ran.out === output, `${ran.out.length} of ${output.length} bytes came back`)
      assert.ok(Buffer.from(last?.stdin ?? []).equals(input), `${last?.stdin.length} of ${input.length} bytes were sent`)
      assert.deepEqual({ ...last?.env }, { CNI_ARGS: long, CNI_PATH: `${long}p`, CNI_NETNS: '/n' })
    })

    test('an answer that comes byte by byte is put together', async () => {
      answer = (connection) => {
        const bytes = encodeAnswer({ status: 9, output: 'slowly' })
        let at = 0
        const next = () => (at < bytes.length ? connection.write(bytes.subarray(at, ++at), () => setImmediate(next)) : connection.end())
        next()
      }
      assert.deepEqual(await run([...prefix, install(arch)], {}, ''), { code: 9, out: 'slowly', err: '' })
    })

    test('an engine that goes away, talks nonsense or stays silent is error 11', async () => {
      const whole = Buffer.from(encodeAnswer({ status: 0, output: '{"partly":true}' }))
      for (const [what, act] of [
        ['closes', (connection: Socket) => connection.destroy()],
        ['closes within the header', (connection: Socket) => connection.end(whole.subarray(0, 5))],
        ['closes within the body', (connection: Socket) => connection.end(whole.subarray(0, -1))],
        ['is something else', (connection: Socket) => connection.end('HTTP/1.1 400 Bad Request\r\n\r\n')],
        ['is silent', () => {}],
      ] as const) {
        answer = act
        const ran = await run([...prefix, install(arch, { timeoutSeconds: 1 })], { CNI_COMMAND: 'ADD' }, '{}')
        assert.equal(ran.code, 1, what)
        const error = ran.out.slice(ran.out.lastIndexOf('{"code"'))
        assert.equal(JSON.parse(error).code, 11, `${what}: ${ran.out}`)
      }
    })

    test('without an engine it becomes the program that does the work, with the same environment and input', async () => {
      const stub = install(arch, { at: `${dir}/nobody.sock` })
      assert.deepEqual(await run([...prefix, stub], { CNI_COMMAND: 'DEL' }, '{"name":"n"}'), { code: 0, out: 'DEL\n{"name":"n"}', err: '' })
      const broken = install(arch, { at: `${dir}/nobody.sock`, fallback: [`${dir}/no-such-program`] })
      const ran = await run([...prefix, broken], {}, '{}')
      assert.equal(ran.code, 1)
      assert.equal(JSON.parse(ran.out).code, 11)
    })

    test('closed standard input is an empty one', async () => {
      reply(0, 'ok')
      assert.equal(
        (await run(['sh', '-c', `exec ${[...prefix, install(arch)].join(' ')} <&-`], { PATH: process.env['PATH'] ?? '' }, undefined)).out,
        'ok',
      )
      assert.equal(last?.stdin.length, 0)
    })
  })

test('a path that does not fit in a socket address is refused when the stub is made', () => {
  assert.throws(() => stubFile('x64', { socket: `/${'x'.repeat(108)}`, fallback: [], timeoutSeconds: 1 }), /can have 107/)
})
