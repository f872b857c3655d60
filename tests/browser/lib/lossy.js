/** A way from a page to the gateway's media on which each tenth packet of sound is lost. */

import dgram from 'node:dgram';

const LOST_EVERY = 10;

export class Lossy {
  /** Packets of RTP that came from the page, and those of them that went no further. */
  came = 0;
  lost = 0;
  /** The payload types of those packets. */
  types = new Set();
  #near = dgram.createSocket('udp4');
  #far = dgram.createSocket('udp4');
  #page; #gateway;

  static async start() {
    const lossy = new this();
    const bound = (socket) => new Promise((resolve, reject) => socket.once('error', reject).bind(0, '127.0.0.1', resolve));
    await Promise.all([bound(lossy.#near), bound(lossy.#far)]);
    lossy.port = lossy.#near.address().port;
    lossy.#near.on('message', (packet, from) => lossy.#toGateway(packet, from));
    lossy.#far.on('message', (packet) => lossy.#page && lossy.#near.send(packet, lossy.#page.port, lossy.#page.address));
    return lossy;
  }

  /** Where the gateway's media is: `{ address, port }`. */
  leadTo(gateway) { this.#gateway = gateway; }

  close() {
    this.#near.close();
    this.#far.close();
  }

  #toGateway(packet, from) {
    this.#page = from;
    if (!this.#gateway) return; // checks are repeated
    // RTP, not RTCP, STUN or DTLS (RFC 7983); the header is in the clear in SRTP, too.
    if (packet[0] >> 6 === 2 && !(packet[1] >= 192 && packet[1] <= 223)) {
      this.came++;
      this.types.add(packet[1] & 127);
      if (this.came % LOST_EVERY === 0) {
        this.lost++;
        return;
      }
    }
    this.#far.send(packet, this.#gateway.port, this.#gateway.address);
  }
}

/** For the page: its sound goes through that port of this machine, and `ringbackTest.mediaAt` tells where it would have gone. */
export function goThrough(port) {
  const set = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
    const state = globalThis.ringbackTest;
    state.connection = this;
    const moved = sdp.replace(/(a=candidate:\S+ 1 udp \d+) (\S+) (\d+)/g, (_, before, address, at) => {
      state.mediaAt = { address, port: Number(at) };
      return `${before} 127.0.0.1 ${port}`;
    });
    return set.call(this, { type, sdp: moved });
  };
}
