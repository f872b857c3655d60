/** The media side of a phone: keeps the PCMU and the digits it is sent, and speaks to where they come from. */

import dgram from 'node:dgram';
import { muLawDecode, muLawEncode } from './audio.js';
import { freeUdpPair, until } from './processes.js';

const RATE = 8000;
const PACKET_MS = 20;
const PACKET_SAMPLES = (RATE * PACKET_MS) / 1000;
const PCMU = 0;
const DIGITS_TYPE = 101;
const EVENTS = '0123456789*#ABCD';

export class RtpPhone {
  /** The keys that came as telephone-events (RFC 4733). */
  digits = '';
  packets = 0;
  sources = new Set();
  #heardSource = null; #socket; #samples = []; #first = null; #last = null; #lastEvent = null; #peer = null; #speaking = null;
  #sequence = Math.floor(Math.random() * 0x10000); #timestamp = Math.floor(Math.random() * 2 ** 32);
  #ssrc = Math.floor(Math.random() * 2 ** 32); #speech; #at = 0; #started = 0; #sent = 0;

  /** A phone that says `speech` (8 kHz) in a loop as soon as it hears from somebody; silent without. */
  static async open(speech) {
    const phone = new RtpPhone();
    phone.port = await freeUdpPair();
    phone.#speech = speech;
    phone.#socket = dgram.createSocket('udp4');
    phone.#socket.on('message', (packet, from) => phone.#receive(packet, from));
    await new Promise((resolve, reject) => phone.#socket.once('error', reject).bind(phone.port, '127.0.0.1', resolve));
    return phone;
  }

  close() {
    clearTimeout(this.#speaking);
    this.#socket.close();
  }

  /** Says this from now on. */
  say(speech) {
    this.#speech = speech;
    if (this.#peer && !this.#speaking) this.#speak();
  }

  /** Presses a key: a telephone-event (RFC 4733) of `steps` packets, its end told three times. */
  async press(key, steps = 6) {
    const timestamp = this.#timestamp >>> 0;
    for (let n = 1; n <= steps + 2; n++) {
      const packet = Buffer.alloc(16);
      packet[0] = 0x80;
      packet[1] = DIGITS_TYPE | (n === 1 ? 0x80 : 0);
      packet.writeUInt16BE(this.#sequence++ & 0xffff, 2);
      packet.writeUInt32BE(timestamp, 4);
      packet.writeUInt32BE(this.#ssrc, 8);
      packet[12] = EVENTS.indexOf(key);
      packet[13] = (n >= steps ? 0x80 : 0) | 10;
      packet.writeUInt16BE(Math.min(n, steps) * PACKET_SAMPLES, 14);
      this.#socket.send(packet, this.#peer.port, this.#peer.address);
      await new Promise((resolve) => setTimeout(resolve, PACKET_MS));
    }
  }

  /** What was heard so far, by RTP timestamp: what did not arrive is silence. */
  recording(from, to) { return { rate: RATE, samples: Float32Array.from(this.#samples.slice(from * RATE, to * RATE), (x) => x ?? 0) }; }
  /** Its length in seconds. */
  recorded() { return this.#samples.length / RATE; }

  /** Waits until `seconds` more have been heard, and gives just those. */
  async hear(seconds) {
    const from = this.recorded();
    await until(() => this.recorded() >= from + seconds, () => `${seconds} s of RTP at the phone; there were ${this.packets} packets`, (seconds + 10) * 1000);
    return this.recording(from, from + seconds);
  }

  #receive(packet, from) {
    if (packet.length < 12 || packet[0] >> 6 !== 2) return;
    const type = packet[1] & 0x7f;
    const timestamp = packet.readUInt32BE(4);
    const payload = packet.subarray(12 + 4 * (packet[0] & 0x0f));
    this.packets++;
    this.sources.add(`${from.address}:${from.port}`);
    const another = this.#peer?.port !== from.port;
    this.#peer = from;
    if (this.#speech && (another || !this.#speaking)) this.#speak();
    if (type === DIGITS_TYPE) return this.#receiveEvent(timestamp, payload);
    if (type !== PCMU) return;
    const source = packet.readUInt32BE(8);
    if (source !== this.#heardSource) this.#first = (timestamp - this.#samples.length) >>> 0; // another stream goes on where the last ended
    this.#heardSource = source;
    const at = (timestamp - this.#first) >>> 0;
    if (at > RATE * 600) return; // before the first one
    payload.forEach((byte, i) => { this.#samples[at + i] = muLawDecode(byte); });
  }

  #receiveEvent(timestamp, payload) {
    // One event has one timestamp, however many packets tell of it.
    if (this.#lastEvent === timestamp || payload.length < 4) return;
    this.#lastEvent = timestamp;
    this.digits += EVENTS[payload[0]] ?? '?';
  }

  /** Speaks from this moment on. */
  #speak() {
    clearTimeout(this.#speaking);
    this.#started = performance.now();
    this.#sent = 0;
    // Paced by the clock, not by the timer, so that a late timer does not slow the speech.
    const due = () => {
      while (this.#sent * PACKET_MS <= performance.now() - this.#started) this.#sendPacket();
      this.#speaking = setTimeout(due, this.#sent * PACKET_MS - (performance.now() - this.#started));
    };
    due();
  }

  #sendPacket() {
    const payload = Buffer.alloc(PACKET_SAMPLES);
    for (let i = 0; i < PACKET_SAMPLES; i++) payload[i] = muLawEncode(this.#speech.samples[this.#at++ % this.#speech.samples.length]);
    this.#send(payload);
  }

  #send(payload) {
    const packet = Buffer.alloc(12 + payload.length);
    packet[0] = 0x80;
    packet[1] = PCMU | (this.#sent === 0 ? 0x80 : 0);
    packet.writeUInt16BE(this.#sequence++ & 0xffff, 2);
    packet.writeUInt32BE(this.#timestamp >>> 0, 4);
    packet.writeUInt32BE(this.#ssrc, 8);
    payload.copy(packet, 12);
    this.#timestamp += payload.length;
    this.#sent++;
    this.#socket.send(packet, this.#peer.port, this.#peer.address);
  }
}
