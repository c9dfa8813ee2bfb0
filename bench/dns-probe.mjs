// One A query at a time over UDP: prints [p50, p99] in microseconds. Usage: dns-probe.mjs <server> <name> <count>
import dgram from 'node:dgram'

const [server, name, count] = process.argv.slice(2)
const question = Buffer.concat([
  ...name.split('.').map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)])),
  Buffer.from([0, 0, 1, 0, 1]),
])
const socket = dgram.createSocket('udp4')
await new Promise((resolve) => socket.connect(53, server, resolve))
const times = []
let failures = 0
for (let i = 0; i < Number(count); i++) {
  const id = i & 0xffff
  const query = Buffer.concat([Buffer.from([id >> 8, id & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), question])
  const started = process.hrtime.bigint()
  const answered = await new Promise((resolve) => {
    const timer = setTimeout(() => resolve(undefined), 2000)
    const onMessage = (reply) => {
      if (reply.readUInt16BE(0) !== id) return
      clearTimeout(timer)
      socket.off('message', onMessage)
      resolve(reply.readUInt16BE(6))
    }
    socket.on('message', onMessage)
    socket.send(query)
  })
  if (answered !== 1) failures++
  else times.push(Number(process.hrtime.bigint() - started) / 1000)
}
socket.close()
if (times.length === 0 || failures > times.length / 100) {
  console.error(`${failures} of ${count} queries for ${name} were not answered with one address`)
  process.exit(1)
}
times.sort((a, b) => a - b)
console.log(JSON.stringify([times[times.length >> 1], times[Math.floor(times.length * 0.99)]]))
