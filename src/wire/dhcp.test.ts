import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Cidr, type Ip, type Mac, parseCidr } from '../base/address.ts'
import { type DhcpMessage, decodeDhcp, encodeDhcp, PARAMETERS_ASKED } from './dhcp.ts'
import { BROADCAST_MAC, decodeServerFrame, encodeClientFrame } from './dhcp-frame.ts'

const ip = (text: string): Ip => text as Ip
const MAC = '02:42:ac:11:00:02' as Mac

const REQUEST: DhcpMessage = {
  op: 'request',
  xid: 0xdeadbeef,
  secs: 3,
  broadcast: true,
  ciaddr: ip('0.0.0.0'),
  yiaddr: ip('0.0.0.0'),
  giaddr: ip('0.0.0.0'),
  chaddr: MAC,
  options: {
    type: 'request',
    clientId: Uint8Array.of(1, 2, 0x42, 0xac, 0x11, 0, 2),
    requestedIp: ip('192.168.7.20'),
    serverId: ip('192.168.7.1'),
    hostname: 'web1',
    maxSize: 1400,
    vendorClass: 'causeway',
    parameters: PARAMETERS_ASKED,
  },
}

const ACK: DhcpMessage = {
  ...REQUEST,
  op: 'reply',
  secs: 0,
  broadcast: false,
  yiaddr: ip('192.168.7.20'),
  options: {
    type: 'ack',
    serverId: ip('192.168.7.1'),
    leaseSeconds: 0xffffffff,
    t1Seconds: 1800,
    t2Seconds: 3150,
    prefixLength: 25,
    routers: [ip('192.168.7.1'), ip('192.168.7.2')],
    dns: [ip('9.9.9.9')],
    domain: 'lan.example',
    mtu: 1400,
    message: 'hello',
    routes: [
      { dst: '0.0.0.0/0' as Cidr, gateway: ip('192.168.7.1') },
      { dst: parseCidr('10.128.0.0/9'), gateway: ip('192.168.7.3') },
      { dst: parseCidr('172.16.5.4/32'), gateway: ip('192.168.7.4') },
    ],
  },
}

/** The answer of dnsmasq 2.89 to a DISCOVER that this codec wrote, as captured: the UDP payload up to END. */
const DNSMASQ_OFFER = `0201060009f49bdd 0000 8000 00000000 0a630b93 0a630b01 00000000 024200000002 ${'00'.repeat(10 + 64 + 128)}
63825363 350102 36040a630b01 330400000e10 3a0400000708 3b0400000c4e 0104ffffff00 1c040a630bff 03040a630b01 ff`.replace(/\s/g, '')

test('messages come back as they were written', () => {
  for (const message of [REQUEST, ACK]) assert.deepEqual(decodeDhcp(encodeDhcp(message)), message)
  assert.equal(encodeDhcp(REQUEST).length, 300, 'no shorter than BOOTP relays want')
})

test("a real server's offer is understood", () => {
  const offer = decodeDhcp(new Uint8Array(Buffer.from(DNSMASQ_OFFER, 'hex')))
  assert.equal(offer.yiaddr, '10.99.11.147')
  assert.equal(offer.broadcast, true)
  assert.equal(offer.chaddr, '02:42:00:00:00:02')
  assert.deepEqual(offer.options, {
    type: 'offer',
    serverId: '10.99.11.1',
    leaseSeconds: 3600,
    t1Seconds: 1800,
    t2Seconds: 3150,
    prefixLength: 24,
    routers: ['10.99.11.1'],
  })
})

test('a message that is cut off anywhere is refused or reads as a whole one, and never breaks', () => {
  const whole = encodeDhcp(ACK)
  for (let length = 0; length < whole.length; length++)
    try {
      decodeDhcp(whole.subarray(0, length))
    } catch (error) {
      assert.match((error as Error).message, /^Cannot read DHCP message: /)
    }
  assert.throws(() => decodeDhcp(whole.subarray(0, 239)), /239 bytes are too few/)
  assert.throws(() => decodeDhcp(whole.subarray(0, 245)), /option 54 is cut off/)
})

test('any byte may be wrong', () => {
  const whole = encodeDhcp(ACK)
  for (let at = 0; at < whole.length; at++)
    for (const value of [0, 1, 0x7f, 0xff]) {
      const bytes = whole.slice()
      bytes[at] = value
      try {
        decodeDhcp(bytes)
      } catch (error) {
        assert.match((error as Error).message, /^Cannot read DHCP message: /)
      }
    }
})

test('options in pieces are joined, and fields that hold options are read', () => {
  const bytes = new Uint8Array(400)
  bytes.set(encodeDhcp({ ...ACK, options: { type: 'ack' } }).subarray(0, 240))
  bytes.set([53, 1, 5, 52, 1, 3, 12, 2, 0x61, 0x62, 12, 1, 0x63, 255], 240)
  bytes.set([15, 3, 0x6c, 0x61, 0x6e, 255], 108) // file
  bytes.set([26, 2, 5, 0xdc, 255], 44) // sname
  const { options } = decodeDhcp(bytes)
  assert.equal(options.hostname, 'abc')
  assert.equal(options.domain, 'lan')
  assert.equal(options.mtu, 1500)
})

test('frames: checksums are right, and only frames from a server to a client are taken', () => {
  const payload = encodeDhcp(REQUEST)
  const frame = encodeClientFrame({ from: MAC, to: BROADCAST_MAC, src: ip('0.0.0.0'), dst: ip('255.255.255.255'), payload })
  assert.equal(frame.length, 14 + 20 + 8 + 300)
  assert.equal(onesSum(frame.subarray(14, 34)), 0xffff)
  const pseudo = [...frame.subarray(26, 34), 0, 17, ...frame.subarray(38, 40)]
  assert.equal(onesSum(Uint8Array.from([...pseudo, ...frame.subarray(34)])), 0xffff)
  assert.equal(decodeServerFrame(frame), undefined, 'to a server, not to a client')
  const answer = frame.slice()
  answer.set([0, 67, 0, 68], 34)
  assert.deepEqual(decodeServerFrame(answer), { from: MAC, src: '0.0.0.0', payload })
  for (let length = 0; length < answer.length; length++) assert.equal(decodeServerFrame(answer.subarray(0, length)), undefined)
  const fragment = answer.slice()
  fragment[20] = 0x20
  assert.equal(decodeServerFrame(fragment), undefined)
})

function onesSum(bytes: Uint8Array): number {
  let total = 0
  for (let i = 0; i < bytes.length; i += 2) total += ((bytes[i] as number) << 8) | (bytes[i + 1] ?? 0)
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16)
  return total
}
