/** A phone of the client's, let in by a gateway that the test plays. */

import { Phone } from '../../../web/client/index.js';
import { Socket } from './stand-ins.js';

/** Lets what is waiting for nothing but its turn run. */
export const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

/** The same where timers stand still. */
export async function turns() {
  for (let turn = 0; turn < 30; turn++) await Promise.resolve();
}

export const WELCOME = { type: 'welcome', user: 'alice', session: '1', version: 1 };
export const RESUMABLE = { ...WELCOME, resume: 'secret-1', grace_ms: 30_000 };

export class Bench {
  static #made = 0;
  errors = [];
  log = [];

  /** At a gateway of its own, where none is named: a phone of an earlier test may still be looking for its one. */
  constructor({ url = `wss://gw${++Bench.#made}.example/phone`, ...options } = {}) {
    this.url = url;
    this.phone = new Phone({ url, log: (line) => this.log.push(line), ...options });
    this.phone.on('error', (error) => this.errors.push(error.code));
  }

  get sockets() { return Socket.all.filter(({ url }) => url === this.url); }

  get socket() { return this.sockets.at(-1); }

  async start(welcome = WELCOME) {
    const ready = this.phone.start();
    await settled();
    this.open(welcome);
    await ready;
    return this;
  }

  open(welcome) {
    this.socket.open();
    this.hears(welcome);
  }

  hears(message) { this.socket.hear(message); }
  tells(call, type, more = {}) { this.hears({ type, call: call._key, ...more }); }

  /** What was said on the present socket, of one type. */
  said(type) { return this.socket.sent.filter((message) => message.type === type); }

  /** An answered call, whose sound path stands. */
  async active() {
    const call = await this.phone.call('600');
    this.tells(call, 'answer', { id: '1f', sdp: 'v=0\r\n' });
    this.tells(call, 'answered');
    await settled();
    call.peerConnection.becomes('connected');
    return call;
  }

  incoming(more = {}) {
    return new Promise((resolve) => {
      this.phone.on('incoming', resolve);
      this.hears({ type: 'incoming', call: '2f', id: '2f', from: '+447700900123', to: '600', sdp: 'v=0\r\n', ...more });
    });
  }
}
