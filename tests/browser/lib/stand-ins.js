/** The browser's parts as the client sees them, without a browser: what is said on sockets, what connections are told. */

import { after } from 'node:test';

/** The tones that were played. */
export const beeps = [];

export class Socket {
  static CONNECTING = 0;
  static OPEN = 1;
  static last;
  static all = [];
  sent = [];
  readyState = Socket.CONNECTING;
  constructor(url) {
    this.url = url;
    Socket.last = this;
    Socket.all.push(this);
  }
  send(text) { this.sent.push(JSON.parse(text)); }
  close(code) {
    this.readyState = 3;
    this.closedWith = code;
  }
  open() { this.readyState = Socket.OPEN; this.onopen(); }
  break(code = 1006) {
    this.readyState = 3;
    this.onclose({ code });
  }
  hear(message) { this.onmessage({ data: JSON.stringify(message) }); }
}

export class Stream {
  #tracks = [{ addEventListener() {}, stop() { this.stopped = true; }, enabled: true }];
  addTrack() {}
  getTracks() { return this.#tracks; }
  getAudioTracks() { return this.#tracks; }
}

export class Connection {
  static made = [];
  connectionState = 'new';
  restarts = 0;
  localDescription = { sdp: 'v=0\r\nours' };
  static async generateCertificate() { return { expires: Infinity }; }
  #configuration;
  constructor(configuration) {
    this.#configuration = configuration;
    Connection.made.push(this);
  }
  getConfiguration() { return this.#configuration; }
  setConfiguration(configuration) { this.#configuration = configuration; }
  restartIce() { this.restarts++; }
  becomes(state) {
    this.connectionState = state;
    this.onconnectionstatechange();
  }
  #transceiver = { sender: { replaceTrack: async () => {} }, receiver: { track: {} } };
  addTransceiver() { return this.#transceiver; }
  getTransceivers() { return [this.#transceiver]; }
  async setLocalDescription() {}
  async setRemoteDescription() {}
  close() { this.closed = true; }
}

const param = () => ({ value: 0, setValueAtTime() {}, linearRampToValueAtTime() {} });
const node = () => ({ frequency: param(), gain: param(), connect: (next) => next, disconnect() {}, start() {}, stop() {} });

class Sound {
  state = 'running';
  createMediaStreamSource() { return { connect() {}, disconnect() {} }; }
  createAnalyser() { return { getFloatTimeDomainData: (samples) => samples.fill(0.5) }; }
  currentTime = 0;
  destination = node();
  createOscillator() {
    beeps.push('tone');
    return node();
  }
  createGain() { return node(); }
  createMediaStreamDestination() { return { stream: new Stream() }; }
  async resume() {}
  async close() {}
}

/** To be changed by tests: what devices there are, what the microphone does. */
export const mediaDevices = { getUserMedia: async () => new Stream() };
export const permissions = { query: async () => ({ state: 'granted' }) };
/** What happens to the page. */
export const pageEvents = {
  listeners: new Map(),
  add(name, listener) { pageEvents.listeners.set(name, [...(pageEvents.listeners.get(name) ?? []), listener]); },
  remove(name, listener) { pageEvents.listeners.set(name, (pageEvents.listeners.get(name) ?? []).filter((known) => known !== listener)); },
  fire(name, event = {}) { for (const listener of pageEvents.listeners.get(name) ?? []) listener(event); },
};
class Store extends Map {
  setItem(name, value) { this.set(name, value); }
  getItem(name) { return this.get(name) ?? null; }
  removeItem(name) { this.delete(name); }
}
export const sessionStorage = new Store();

const standIns = {
  WebSocket: Socket, MediaStream: Stream, RTCPeerConnection: Connection, AudioContext: Sound,
  Audio: class { async play() {} },
  addEventListener: pageEvents.add, removeEventListener: pageEvents.remove, sessionStorage,
  navigator: { mediaDevices, permissions },
};
for (const [name, value] of Object.entries(standIns)) Object.defineProperty(globalThis, name, { value, configurable: true });

// A page's timers go with the page, and that with the file's last test: nobody waits for the grace time of a phone in it.
const timers = [];
for (const name of ['setTimeout', 'setInterval']) {
  const set = globalThis[name];
  globalThis[name] = (...given) => {
    const timer = set(...given);
    timers.push(timer);
    return timer;
  };
}
after(() => timers.forEach(clearTimeout));
