/** The WebSocket to the gateway: one at a time, and watched for life. Whoever holds it says when to open another. */

import { PhoneError } from './texts.js';

const SUBPROTOCOL = 'ringback.v1';
const PING_EVERY_MS = 20_000;
/** What a living gateway, and the way to it, may take to be heard. */
const HEARD_WITHIN_MS = 10_000;
/** The same where something makes us doubt, as in a call whose sound has gone. */
const DOUBTED_MS = 2000;
/** The gateway's word that another page has taken this session over (docs/browser-protocol.md). */
const TAKEN_OVER = 4001;

/** The protocol's names with underscores are this module's without: `loss_pct`, `lossPct`. */
const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
const rename = (_, value) => (value?.constructor === Object ? Object.fromEntries(Object.entries(value).map(([name, part]) => [camel(name), part])) : value);

export class Link {
  #url; #onMessage; #onLost; #socket = null; #opening = null; #outbox = []; #pinger; #doubts = new Set(); #heardAt = 0;

  /** `onMessage(message)`; `onLost(error)` once for every connection that could not be made, or is no more. */
  constructor(url, { onMessage, onLost }) {
    this.#url = url;
    this.#onMessage = onMessage;
    this.#onLost = onLost;
  }

  /** Opens a connection that begins with what `hello()` gives; nothing where there is one. */
  async open(hello) {
    if (this.#socket || this.#opening) return;
    // Set before the token is asked for, so that two calls at once open one connection.
    const opening = this.#opening = {};
    let first; let problem;
    try { first = await hello(); } catch (error) { problem = error instanceof PhoneError ? error : new PhoneError('token-unavailable', { detail: error }); }
    if (this.#opening !== opening) return;
    this.#opening = null;
    if (problem) return this.#onLost(problem);
    this.#connect(first);
  }

  #connect(hello) {
    const socket = this.#socket = new WebSocket(this.#url, SUBPROTOCOL);
    let opened = false;
    socket.onopen = () => {
      opened = true;
      // What waits follows the hello at once: one round trip, not two.
      socket.send(JSON.stringify(hello));
      for (const message of this.#outbox.splice(0)) socket.send(JSON.stringify(message));
      this.#pinger = setInterval(() => this.#ping(HEARD_WITHIN_MS), PING_EVERY_MS);
    };
    socket.onmessage = ({ data }) => {
      this.#heardAt = performance.now();
      let message;
      try { message = JSON.parse(data, rename); } catch { return; } // not of this protocol
      this.#onMessage(message);
    };
    socket.onclose = (event) => {
      this.drop();
      const code = event?.code === TAKEN_OVER ? 'taken-over' : opened ? 'connection-lost' : 'unreachable';
      this.#onLost(new PhoneError(code, { detail: event, fatal: code === 'taken-over' }));
    };
    this.#expect(HEARD_WITHIN_MS);
  }

  /** Sends now, or with the next connection. */
  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
    else this.#outbox.push(message);
  }

  /** Whether the gateway has not heard of a call that was placed here. */
  holds(key) { return this.#outbox.some(({ call, type }) => call === key && /call|probe/.test(type)); }

  /** Whether the end of a call waits to be told. */
  get parts() { return this.#outbox.some(({ type }) => /hangup|reject/.test(type)); }

  /** Forgets what waits, but for what `keep` keeps. */
  forget(keep = () => false) { this.#outbox = this.#outbox.filter(keep); }

  /** Something makes us doubt that the gateway can be reached: it is asked, and has two seconds. */
  doubt() { if (this.#socket?.readyState === WebSocket.OPEN) this.#ping(DOUBTED_MS); }

  #ping(withinMs) {
    this.send({ type: 'ping' });
    this.#expect(withinMs);
  }

  #expect(withinMs) {
    const asked = performance.now();
    const timer = setTimeout(() => {
      this.#doubts.delete(timer);
      if (this.#heardAt >= asked) return;
      const opened = this.#socket?.readyState === WebSocket.OPEN;
      this.drop();
      this.#onLost(new PhoneError(opened ? 'connection-lost' : 'unreachable'));
    }, withinMs);
    this.#doubts.add(timer);
  }

  /** Closes without a word to `onLost`. */
  drop(code) {
    const socket = this.#socket;
    this.#socket = this.#opening = null;
    clearInterval(this.#pinger);
    for (const timer of this.#doubts) clearTimeout(timer);
    this.#doubts.clear();
    if (!socket) return;
    socket.onopen = socket.onclose = socket.onmessage = null;
    socket.close(code);
  }
}
